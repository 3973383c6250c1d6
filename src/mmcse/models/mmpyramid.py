"""MM-Pyramid, the multimodal pyramid attentional network (Yu et al., ACM MM 2022).

Levels of attention and convolution follow each other, each looking twice as far along time as the one before. What a
segment is at every level is then weighed and summed.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.hybrid import HybridOutput
from mmcse.models.linear import Linear
from mmcse.models.pooling import HolisticHead
from mmcse.models.recognition import FRONT_END_SIZES, Source, known_by
from mmcse.models.reference import (
    Names,
    front_end_names,
    holistic_head_names,
    linear_names,
    linears_names,
    reference_names,
    repeated_reference_names,
    unused_reference_names,
)
from mmcse.models.transformer import QueryNormLayer, start_alike

StreamOrder = Literal["swapped", "straight"]
"""Which stream the output calls audio: the one whose residual path is visual (as released), or the audio one."""


class PyramidStream(nn.Module):
    """What a pyramid level does to one modality: attention within it, gates, and a convolution over time."""

    def __init__(self, dim: int, within: QueryNormLayer, dilation: int) -> None:
        super().__init__()
        self.within = within
        self.within_gate = Linear(2 * dim, dim)
        self.cross_gate = Linear(2 * dim, dim)
        self.over_time = nn.Conv1d(dim, dim, kernel_size=3, dilation=dilation, padding=dilation)
        self.pointwise = nn.Conv1d(dim, dim, kernel_size=1)

    def forward(self, segments: Tensor, from_other: Tensor, visible: Tensor) -> Tensor:
        """Segments (B, T, D), and what they gathered from the other modality (B, T, D), to new ones."""
        from_own = self.within(segments, segments, visible)
        both = torch.cat((from_own, from_other), dim=-1)
        gated = self.within_gate(both).sigmoid() * from_own + self.cross_gate(both).sigmoid() * from_other
        gated = gated.transpose(1, 2)  # (B, D, T)
        return (self.pointwise(self.over_time(gated).relu()) + gated).relu().transpose(1, 2)


class PyramidLevel(nn.Module):
    """A level of the pyramid: segments see those at most `dilation` away, in both modalities.

    One layer serves both directions across modalities; both read the level's input.
    """

    def __init__(self, dim: int, layers: tuple[QueryNormLayer, QueryNormLayer, QueryNormLayer], dilation: int) -> None:
        super().__init__()
        audio_layer, visual_layer, self.cross = layers
        self.dilation = dilation
        self.audio = PyramidStream(dim, audio_layer, dilation)
        self.visual = PyramidStream(dim, visual_layer, dilation)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) each to (B, T, D) each."""
        position = torch.arange(audio.shape[1], device=audio.device)
        visible = (position[:, None] - position).abs() <= self.dilation
        both = torch.stack((audio, visual))
        to_audio, to_visual = self.cross(both, both.flip(0), visible)
        return self.audio(audio, to_audio, visible), self.visual(visual, to_visual, visible)


class LevelFusion(nn.Module):
    """Relates the levels of a segment with each other, weighs each by a sigmoid of its own, and sums them up."""

    def __init__(self, dim: int, layer: QueryNormLayer) -> None:
        super().__init__()
        self.layer = layer
        self.weight = Linear(dim, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """L tensors (B, T, D) to one."""
        tokens = torch.stack(levels, dim=2)  # (B, T, L, D)
        tokens = self.layer(tokens, tokens)
        return (self.weight(tokens).sigmoid() * tokens).sum(dim=2)


class PyramidEncoder(nn.Module):
    """Semantic capture (a chain of levels with windows 1, 2, 4, ...) and semantic fusion of all of them.

    All layers of the levels start with the same feed-forward part, and both fusion layers with the same parameters.

    Args:
        dim: D.
        num_levels: L.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        attention_dropout: on attention weights.
        dropout: on the updates of a layer, and inside its feed-forward part.

    Raises:
        UserError: there is no level, or the width does not divide among the heads.
    """

    def __init__(
        self,
        dim: int,
        num_levels: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 512,
        attention_dropout: float = 0.1,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if num_levels < 1:
            raise UserError(f"A pyramid needs at least one level; num_levels is {num_levels}.")

        def layer() -> QueryNormLayer:
            return QueryNormLayer(dim, num_heads, feedforward_dim, attention_dropout, dropout)

        self.levels = nn.ModuleList(
            PyramidLevel(dim, (layer(), layer(), layer()), dilation=2**level) for level in range(num_levels)
        )
        self.audio_fusion, self.visual_fusion = LevelFusion(dim, layer()), LevelFusion(dim, layer())
        of_levels = [module for module in self.levels.modules() if isinstance(module, QueryNormLayer)]
        start_alike([module.feedforward for module in of_levels])
        start_alike([self.audio_fusion.layer, self.visual_fusion.layer])

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Segment features (B, T, D) of audio and visual to new ones."""
        audio_levels, visual_levels = [], []
        for level in self.levels:
            audio, visual = level(audio, visual)
            audio_levels.append(audio)
            visual_levels.append(visual)
        return self.audio_fusion(audio_levels), self.visual_fusion(visual_levels)


PYRAMID_SIZES: dict[str, Source] = FRONT_END_SIZES | {
    "num_levels": "MMP.capture.msa.",
    "feedforward_dim": ("MMP.fusion.aadaptiveinteraction.feed_forward.w_1.weight", 0),
}


@known_by("mmpyramid", {"MMP"}, sizes=PYRAMID_SIZES | {"num_classes": ("fc_prob.weight", 0)})
class MMPyramid(nn.Module):
    """Front end, pyramid encoder and attentive MMIL pooling; trained by `HANObjective`.

    The defaults are the paper's network on VGGish/ResNet-152 features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_levels: L; level i has the window and the dilation 2^i.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        attention_dropout: on attention weights.
        dropout: on the updates of a layer, and inside its feed-forward part.
        stream_order: the released code stacks (visual, audio), but its losses and its evaluation read (audio,
            visual). "swapped" does the same: what the output calls audio is the stream whose residual path is the
            visual input, and training has to make up for it. "straight" calls each stream what it is.

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
        num_levels: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 512,
        attention_dropout: float = 0.1,
        dropout: float = 0.2,
        stream_order: StreamOrder = "swapped",
    ) -> None:
        super().__init__()
        if stream_order not in ("swapped", "straight"):
            raise UserError(f"stream_order is {stream_order!r}; expected 'swapped' or 'straight'.")
        self.stream_order: StreamOrder = stream_order
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.encoder = PyramidEncoder(hidden_dim, num_levels, num_heads, feedforward_dim, attention_dropout, dropout)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> HybridOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: what the output holds beyond predictions costs nothing.

        Returns:
            The output. Its features stand in the straight order, whatever the order of its predictions.
        """
        projected = self.front_end(audio, visual, motion)
        encoded = stack_modalities(*self.encoder(*projected))
        parsed = self.head(encoded.flip(2) if self.stream_order == "swapped" else encoded)
        return HybridOutput(**vars(parsed), projected=stack_modalities(*projected), encoded=encoded)


def query_norm_layer_names(ours: str, theirs: str) -> Names:
    """A `QueryNormLayer`."""
    attention = {p: f"self_attn.linears.{i}" for i, p in enumerate(("query", "key", "value", "out"))}
    table = {f"attention.{ours}": theirs for ours, theirs in attention.items()}
    table |= {"attention_norm": "sublayer.0.norm", "feedforward_norm": "sublayer.1.norm"}
    table |= {"feedforward.0": "feed_forward.w_1", "feedforward.3": "feed_forward.w_2"}
    return linears_names(ours, theirs, table)


def unused_template(theirs: str, dim: int, feedforward_dim: int) -> dict[str, tuple[int, ...]]:
    """The attention and the feed-forward part that the reference code copies into its layers, and keeps."""
    linears = {f"multiheadattn.linears.{i}": (dim, dim) for i in range(4)}
    linears |= {"feedforward.w_1": (feedforward_dim, dim), "feedforward.w_2": (dim, feedforward_dim)}
    shapes = {f"{theirs}.{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{theirs}.{name}.bias": shape[:1] for name, shape in linears.items()}
    return shapes | unused_attention_norms([f"{theirs}.multiheadattn"], dim)


def unused_attention_norms(attentions: list[str], dim: int) -> dict[str, tuple[int, ...]]:
    """The norm that every attention of the reference code has and never applies."""
    return {f"{name}.layer_norm.{part}": (dim,) for name in attentions for part in ("weight", "bias")}


def _layers(encoder: PyramidEncoder) -> dict[str, str]:
    """Every `QueryNormLayer` of an encoder: our name -> theirs."""
    blocks = {"audio.within": "asablock", "visual.within": "vsablock", "cross": "cmablock"}
    names = {
        f"levels.{i}.{ours}": f"capture.msa.{i}.{theirs}.layer"
        for i in range(len(encoder.levels))
        for ours, theirs in blocks.items()
    }
    return names | {f"{m}_fusion.layer": f"fusion.{m[0]}adaptiveinteraction" for m in ("audio", "visual")}


def pyramid_names(encoder: PyramidEncoder, ours: str = "encoder", theirs: str = "MMP") -> Names:
    """A pyramid encoder."""
    names: Names = {}
    for layer, their_layer in _layers(encoder).items():
        names |= query_norm_layer_names(f"{ours}.{layer}", f"{theirs}.{their_layer}")
    for m in ("audio", "visual"):
        names |= linear_names(f"{ours}.{m}_fusion.weight", f"{theirs}.fusion.{m[0]}selectfusion")
        for i in range(len(encoder.levels)):
            level, capture = f"{ours}.levels.{i}.{m}", f"{theirs}.capture"
            names |= linear_names(f"{level}.within_gate", f"{capture}.msa.{i}.l{m[0]}1")
            names |= linear_names(f"{level}.cross_gate", f"{capture}.msa.{i}.l{m[0]}2")
            names |= linear_names(f"{level}.over_time", f"{capture}.{m[0]}network.{i}.conv1")
            names |= linear_names(f"{level}.pointwise", f"{capture}.{m[0]}network.{i}.conv2")
    return names


def unused_pyramid_names(encoder: PyramidEncoder, theirs: str = "MMP") -> dict[str, tuple[int, ...]]:
    """What the reference's pyramid encoder holds and never uses."""
    inner, dim = encoder.get_parameter("audio_fusion.layer.feedforward.0.weight").shape
    unused = unused_template(f"{theirs}.capture", dim, inner) | unused_template(f"{theirs}.fusion", dim, inner)
    return unused | unused_attention_norms([f"{theirs}.{name}.self_attn" for name in _layers(encoder).values()], dim)


def repeated_pyramid_names(encoder: PyramidEncoder, theirs: str = "MMP") -> dict[str, str]:
    """Every convolution lies in a saved state twice."""
    return {
        f"{network}.net.{2 * n - 2}.{part}": f"{network}.conv{n}.{part}"
        for m in "av"
        for i in range(len(encoder.levels))
        for network in (f"{theirs}.capture.{m}network.{i}",)
        for n in (1, 2)
        for part in ("weight", "bias")
    }


@reference_names.register
def _(network: MMPyramid) -> Names:
    return front_end_names() | pyramid_names(network.encoder) | holistic_head_names()


@unused_reference_names.register
def _(network: MMPyramid) -> Mapping[str, tuple[int, ...]]:
    return unused_pyramid_names(network.encoder)


@repeated_reference_names.register
def _(network: MMPyramid) -> Mapping[str, str]:
    return repeated_pyramid_names(network.encoder)
