"""The network of DHHN that parses: hybrid attention at several temporal scales (Jiang et al., ACM MM 2022).

DHHN trains one of it beside its guides, and is tested with two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.hybrid import hybrid_layers, update_both
from mmcse.models.pooling import HolisticHead
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import (
    Names,
    front_end_names,
    holistic_head_names,
    hybrid_layer_names,
    norm_shapes,
    reference_names,
    unused_reference_names,
)

SCALES = ((1, 1), (3, 2), (5, 5))
"""Kernel and stride of the convolution of each temporal scale."""

PARSER_SIZES = {name: source for name, source in HYBRID_SIZES.items() if isinstance(source, tuple)}


@dataclass(frozen=True, kw_only=True)
class AveragedOutput(ParserOutput):
    """A parsing whose segment probabilities are averages of probabilities, in single precision or better.

    `segment_prob` is exact, so that an average on either side of a threshold stays there; `segment_logits` are the
    logits of the averages, whose sigmoid gives them back up to rounding.
    """

    segment_average: Tensor
    """(B, T, 2, K) averages over the temporal scales."""

    @property
    def segment_prob(self) -> Tensor:
        """(B, T, 2, K) segment-level probabilities."""
        return self.segment_average


class Scale(nn.Module):
    """One modality at one temporal scale: convolution over time, batch norm, ReLU."""

    def __init__(self, dim: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, dim, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, segments: Tensor) -> Tensor:
        """(B, T, D) to (B, ceil(T / stride), D)."""
        return self.norm(self.convolution(segments.transpose(1, 2))).relu().transpose(1, 2)


@known_by("dhhn_parser", HYBRID_MARKS | {"fc_st", "conv_x1"}, sizes=PARSER_SIZES, method="dhhn")
class HierarchicalContextNetwork(nn.Module):
    """The network that makes the predictions: one hybrid attention layer for both modalities at three temporal scales.

    Coarse scales are brought back to T segments and added to the finer ones. Each of the three sums is parsed by the
    same head, and the probabilities are averaged. Arguments as those of `DHHN`.
    """

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.audio_scales = nn.ModuleList(Scale(hidden_dim, *scale) for scale in SCALES)
        self.visual_scales = nn.ModuleList(Scale(hidden_dim, *scale) for scale in SCALES)
        self.layers = hybrid_layers(1, hidden_dim, num_heads, feedforward_dim, dropout)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> AveragedOutput:
        """Parse a batch of videos; arguments as those of `DHHN.forward`, `auxiliary` without effect."""
        audio, visual = self.front_end(audio, visual, motion)
        summed, parsed = torch.zeros_like(stack_modalities(audio, visual)), []
        for audio_scale, visual_scale in zip(self.audio_scales, self.visual_scales, strict=True):
            encoded = update_both(self.layers, stack_modalities(audio_scale(audio), visual_scale(visual)))
            summed = summed + nearest(encoded, audio.shape[1])
            parsed.append(self.head(summed))

        def average(probabilities: list[Tensor]) -> Tensor:
            stacked = torch.stack(probabilities)
            return stacked.mean(dim=0, dtype=torch.promote_types(stacked.dtype, torch.float32))

        segment_prob = average([p.segment_prob for p in parsed])
        return AveragedOutput(
            segment_logits=segment_prob.logit(eps=torch.finfo(segment_prob.dtype).eps),
            segment_average=segment_prob,
            video_prob=average([p.video_prob for p in parsed]),
            audio_prob=average([p.audio_prob for p in parsed]),
            visual_prob=average([p.visual_prob for p in parsed]),
        )


def nearest(coarse: Tensor, num_segments: int) -> Tensor:
    """(B, n, ...) to (B, T, ...): position t takes what stands at floor(t n / T)."""
    return coarse[:, torch.arange(num_segments, device=coarse.device) * coarse.shape[1] // num_segments]


@reference_names.register
def _(network: HierarchicalContextNetwork) -> Names:
    names = front_end_names() | hybrid_layer_names("layers.0", "hat_encoder.layers.0") | holistic_head_names()
    statistics = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for ours, theirs in {"audio_scales": "conv_x1", "visual_scales": "conv_x2"}.items():
        for i in range(len(SCALES)):
            names |= {f"{ours}.{i}.convolution.weight": (f"{theirs}.{i}.blocks.0.0.weight",)}
            names |= {f"{ours}.{i}.norm.{part}": (f"{theirs}.{i}.blocks.0.1.{part}",) for part in statistics}
    return names


@unused_reference_names.register
def _(network: HierarchicalContextNetwork) -> Mapping[str, tuple[int, ...]]:
    return norm_shapes("hat_encoder", network.front_end.audio.out_features)
