"""HAN (ECCV 2020) and VALOR (NeurIPS 2023): hybrid attention over the segments of both modalities.

In a hybrid attention layer each segment gathers from the segments of its own modality and from those of the other
one. One layer serves both modalities. The two networks differ in sizes and in what the visual branch of a layer sees
of the audio branch: HAN's sees its input, VALOR's its result. Later methods stand on HAN's encoder (`update_both`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.attention import Attention
from mmcse.models.decoupling import stack_modalities
from mmcse.models.dropout import Dropout
from mmcse.models.feedforward import FeedForward
from mmcse.models.frontend import FrontEnd
from mmcse.models.pooling import HolisticHead

NormPosition = Literal["post", "pre"]
"""Whether layers normalise their results, or what their sublayers read (then a last norm follows the layers)."""


@dataclass(frozen=True, kw_only=True)
class HybridOutput(ParserOutput):
    """A parsing, and the features that methods on HAN's encoder compare across modalities."""

    projected: Tensor
    """(B, T, 2, D) segment features before the encoder."""
    encoded: Tensor
    """(B, T, 2, D) segment features after the encoder, before any dropout of the event parser."""


class HybridLayer(nn.Module):
    """Hybrid attention layer (HAN, section 4.2): cross- and self-attention added up, then a feed-forward part.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of the feed-forward part.
        dropout: on attention weights, on each of the three updates, and inside the feed-forward part.
        norm: where the two layer norms stand.
    """

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float, norm: NormPosition) -> None:
        super().__init__()
        self.norm: NormPosition = norm
        self.self_attention = Attention(dim, num_heads, dropout)
        self.cross_attention = Attention(dim, num_heads, dropout)
        self.dropout = Dropout(dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)
        self.feedforward_norm = nn.LayerNorm(dim)

    def forward(self, own: Tensor, other: Tensor | None) -> Tensor:
        """Segments of one modality (..., T, D), given those of the other one, to new ones.

        In the pre-norm form only `own` is normalised before attention, as in VALOR's implementation. Without `other`
        there is no cross-attention: a segment gathers from its own modality only, with the same weights.
        """
        if self.norm == "post":
            own = self.attention_norm(own + self._gather(own, other))
            return self.feedforward_norm(own + self.dropout(self.feedforward(own)))
        own = own + self._gather(self.attention_norm(own), other)
        return own + self.dropout(self.feedforward(self.feedforward_norm(own)))

    def _gather(self, own: Tensor, other: Tensor | None) -> Tensor:
        if other is None:
            return self.dropout(self.self_attention(own, own)[0])
        from_other, _ = self.cross_attention(own, other)
        from_own, _ = self.self_attention(own, own)
        return self.dropout(from_other) + self.dropout(from_own)


class HAN(nn.Module):
    """Hybrid attention network: both modalities of a layer are updated from its old segments, simultaneously.

    The defaults are the paper's network on VGGish/ResNet-152 features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_layers: L.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        dropout: rate everywhere the network has dropout.

    Raises:
        UserError: an impossible combination of arguments.
    """

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_layers: int = 1,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> HybridOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: what the output holds beyond predictions costs nothing.
        """
        projected = stack_modalities(*self.front_end(audio, visual, motion))
        encoded = update_both(self.layers, projected)
        return HybridOutput(**vars(self.head(encoded)), projected=projected, encoded=encoded)


class VALOR(nn.Module):
    """VALOR's network: the visual branch of a layer sees the audio segments that the same layer has just updated.

    The defaults are VALOR++ (VALOR* in the MM-CSE paper), on CLAP/CLIP features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_layers: L.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        dropout: rate everywhere the network has dropout.
        norm: where the layer norms stand. The pre-norm form has one more norm per modality, after the layers.

    Raises:
        UserError: an impossible combination of arguments.
    """

    def __init__(
        self,
        audio_dim: int = 768,
        visual_dim: int = 768,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 256,
        num_layers: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        dropout: float = 0.1,
        norm: NormPosition = "post",
    ) -> None:
        super().__init__()
        if norm not in ("post", "pre"):
            raise UserError(f"norm is {norm!r}; expected 'post' or 'pre'.")
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout, norm)
        self.audio_norm, self.visual_norm = (
            nn.LayerNorm(hidden_dim) if norm == "pre" else nn.Identity() for _ in range(2)
        )
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """Parse a batch of videos; arguments as those of `HAN.forward`."""
        audio, visual = self.front_end(audio, visual, motion)
        for layer in self.layers:
            audio = layer(audio, visual)
            visual = layer(visual, audio)
        return self.head(stack_modalities(self.audio_norm(audio), self.visual_norm(visual)))


def hybrid_layers(
    num_layers: int, dim: int, num_heads: int, feedforward_dim: int, dropout: float, norm: NormPosition = "post"
) -> nn.ModuleList:
    """The layers of an encoder; arguments as those of `HybridLayer`.

    Raises:
        UserError: there is no layer, or the width does not divide among the heads.
    """
    if num_layers < 1:
        raise UserError(f"A hybrid attention network needs at least one layer; num_layers is {num_layers}.")
    if num_heads < 1 or dim % num_heads:
        raise UserError(f"hidden_dim ({dim}) must be a multiple of num_heads ({num_heads}).")
    return nn.ModuleList(HybridLayer(dim, num_heads, feedforward_dim, dropout, norm) for _ in range(num_layers))


def update_both(layers: Iterable[nn.Module], features: Tensor, *, cross_attention: bool = True) -> Tensor:
    """HAN's encoder: in each layer both modalities are updated from the old features.

    Args:
        layers: hybrid attention layers.
        features: (..., T, 2, D) segment features of audio and visual; T may as well be the tokens of another axis.
        cross_attention: whether a modality sees the other one; without, each is encoded on its own.

    Returns:
        (..., T, 2, D) new features.
    """
    both = features.movedim(-2, 0)  # (2, ..., T, D): one attention call for both modalities
    for layer in layers:
        both = layer(both, both.flip(0) if cross_attention else None)
    return both.movedim(0, -2)
