"""CVCMS's network (Lin et al., NeurIPS 2021): HAN, and a second hybrid attention layer over the classes of a segment.

Every segment becomes a token per class and modality. The tokens of a segment see one another and those of the other
modality, so that events which occur together support each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.hybrid import HybridOutput, hybrid_layers, update_both
from mmcse.models.linear import Linear
from mmcse.models.pooling import mmil_pooling
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import (
    Names,
    encoder_names,
    front_end_names,
    hybrid_layer_names,
    linear_names,
    norm_shapes,
    reference_names,
    unused_reference_names,
)


@dataclass(frozen=True, kw_only=True)
class CVCMSOutput(HybridOutput):
    """A parsing, and the scores by which segments are weighed."""

    temporal: Tensor
    """(B, T, 2, K) scores of the temporal attention, before the softmax over T."""


class ClassTokens(nn.Module):
    """Event logits from class tokens that attend to one another within a segment, in both modalities.

    Args:
        hidden_dim: D.
        num_classes: K.
        class_dim: d, the width of a token.
        dropout: rate inside the layer.
    """

    def __init__(self, hidden_dim: int, num_classes: int, class_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.audio, self.visual = (Linear(hidden_dim, num_classes * class_dim) for _ in range(2))
        self.layers = hybrid_layers(1, class_dim, 1, class_dim, dropout)
        self.audio_event, self.visual_event = (Linear(class_dim, 1) for _ in range(2))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, T, 2, D) to event logits (B, T, 2, K)."""
        audio, visual = features.unbind(dim=2)
        tokens = stack_modalities(self.audio(audio), self.visual(visual)).relu()
        tokens = tokens.unflatten(-1, (self.num_classes, -1)).transpose(2, 3)  # (B, T, K, 2, d)
        audio, visual = update_both(self.layers, tokens).unbind(dim=3)
        return stack_modalities(self.audio_event(audio).squeeze(-1), self.visual_event(visual).squeeze(-1))


@known_by(
    "cvcms",
    HYBRID_MARKS | {"fc_st", "av_class_encoder"},
    sizes=HYBRID_SIZES | {"class_dim": ("fc_occ_prob_a.weight", -1)},
)
class CVCMS(nn.Module):
    """HAN's encoder with events read off class tokens.

    The defaults are those of the released script, which differ from the code's (class_dim 64, dropout 0.1).

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_layers: L, of the encoder over segments.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        dropout: rate inside the layers over segments.
        class_dim: d, the width of a class token.
        class_dropout: rate inside the layer over classes.
        class_tokens: False for events read off the encoded segment by a linear layer, as in HAN.

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
        dropout: float = 0.4,
        class_dim: int = 128,
        class_dropout: float = 0.25,
        class_tokens: bool = True,
    ) -> None:
        super().__init__()
        self.class_dim = class_dim
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout)
        self.event = (
            ClassTokens(hidden_dim, num_classes, class_dim, class_dropout)
            if class_tokens
            else Linear(hidden_dim, num_classes)
        )
        self.temporal, self.modality = (Linear(hidden_dim, num_classes) for _ in range(2))

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> CVCMSOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: what the output holds beyond predictions costs nothing.
        """
        projected = stack_modalities(*self.front_end(audio, visual, motion))
        encoded = update_both(self.layers, projected)
        temporal = self.temporal(encoded)
        parsed = mmil_pooling(self.event(encoded), temporal, self.modality(encoded))
        return CVCMSOutput(**vars(parsed), projected=projected, encoded=encoded, temporal=temporal)


_TOKEN_NAMES = (
    linear_names("event.audio", "fc_occ_class_a")
    | linear_names("event.visual", "fc_occ_class_v")
    | hybrid_layer_names("event.layers.0", "av_class_encoder.layers.0")
    | linear_names("event.audio_event", "fc_occ_prob_a")
    | linear_names("event.visual_event", "fc_occ_prob_v")
)


@reference_names.register
def _(network: CVCMS) -> Names:
    event = _TOKEN_NAMES if isinstance(network.event, ClassTokens) else linear_names("event", "fc_prob")
    return (
        front_end_names()
        | encoder_names(network)
        | event
        | linear_names("temporal", "fc_frame_att")
        | linear_names("modality", "fc_av_att")
    )


@unused_reference_names.register
def _(network: CVCMS) -> Mapping[str, tuple[int, ...]]:
    (classes, width), dim = network.temporal.weight.shape, network.class_dim
    with torch.device("meta"):
        tokens = ClassTokens(width, classes, dim, dropout=0.0)
    shapes = {f"event.{name}": tuple(weight.shape) for name, weight in tokens.named_parameters()}
    linears = {"fc_prob": (classes, width), "fc_occ_class_av": (classes * dim, 2 * width)}
    linears |= {f"fc_occ_{m}_{part}": (dim, dim) for m in ("a", "v", "av") for part in "qkv"}
    linears |= {f"fc_occ_{name}_prob": (1, dim) for name in ("frame", "modality")}
    unused: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in linears.items()}
    unused |= {f"{name}.bias": shape[:1] for name, shape in linears.items()}
    unused |= {theirs: shapes[ours] for ours, (theirs,) in _TOKEN_NAMES.items()}
    for encoder in ("frame_att_encoder", "modality_encoder"):
        layer = hybrid_layer_names("event.layers.0", f"{encoder}.layers.0")
        unused |= {theirs: shapes[ours] for ours, (theirs,) in layer.items()}
    for encoder in ("hat_encoder", "av_class_encoder", "frame_att_encoder", "modality_encoder"):
        unused |= norm_shapes(encoder, width)
    used = {theirs for (theirs,) in reference_names(network).values()}
    return {name: shape for name, shape in unused.items() if name not in used}  # of both heads, one is
