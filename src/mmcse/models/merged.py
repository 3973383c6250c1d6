"""An FGSE layer of the full model in fewer and larger products: what `FGSELayer` computes, up to rounding.

Everything that reads the layer's tokens q reads them in one product, and products that follow each other without a
nonlinearity between them are merged (1 is intra, 2 is cross; a is what attention gathered, O its output's weight):

    P1 U1 + P2 U2 = (P1 + P2) q + r1 P1 g1 + r2 P2 g2        a video feature g has no time axis
    G S2 = G q + (G O2) a2                                   the other modality's video feature needs G q, too

so a token costs 20 d^2 multiply-adds for 22 d^2, in fewer operations.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmcse.models.attention import by_head, heads_type, mean_map, merge_heads, weighted_sum
from mmcse.models.linear import linear
from mmcse.models.similarity import relu_cosine

Shares = tuple[Tensor, Tensor | None, Tensor | None]
"""P1 U1 + P2 U2, (B, T, 2, K, d), and the co-occurrence maps (B, T, 2, K, K) of the intra and the cross mode."""


def merged_shares(layer: Any, tokens: Tensor, need_maps: bool) -> Shares:
    """P1 U1 + P2 U2 of a layer that has all of its parts.

    Args:
        layer: an `FGSELayer` with SECM and LGSF in both modes, the video feature added to the layer's input.
        tokens: (B, T, 2, K, d).
        need_maps: also return the maps.
    """
    intra, cross = layer.intra, layer.cross
    attention, attention_2 = intra.secm.attention, cross.secm.attention
    joint = cross.lgsf.segment  # G of segment and video alike
    dim = tokens.shape[-1]

    readers = (attention.in_proj, attention_2.in_proj, joint)
    weight = torch.cat([*(reader.weight for reader in readers), intra.projection.weight + cross.projection.weight])
    bias = torch.cat([*(reader.bias for reader in readers), intra.projection.bias + cross.projection.bias])
    projected, joint_q, carried = linear(tokens, weight, bias).split((6 * dim, dim, dim), dim=-1)

    heads: Tensor = _SplitBoth.apply(projected, attention.num_heads)  # type: ignore[assignment]
    gathered, weights = weighted_sum(heads, attention.rate, need_maps or layer.training)
    gathered_1, gathered_2 = merge_heads(gathered, projected.dtype)

    enhanced = tokens + linear(gathered_1, attention.scaled_out_proj(), attention.out_proj.bias)  # S1
    segment_1, video_1 = linear(enhanced, *_stacked(intra.lgsf.segment, intra.lgsf.video)).chunk(2, dim=-1)
    video_1 = video_1.relu().mean(dim=1, keepdim=True)  # g1: (B, 1, 2, K, d)

    merged_weight = joint.weight @ attention_2.scaled_out_proj()
    segment_2 = joint_q + linear(gathered_2, merged_weight, joint.weight @ attention_2.out_proj.bias)  # G S2
    video_2 = joint_q.relu().mean(dim=1, keepdim=True).flip(2)  # g2

    for segment, video, mode in ((segment_1, video_1, intra), (segment_2, video_2, cross)):
        relevance = relu_cosine(segment, video, shared=1).sigmoid()
        carried = torch.addcmul(carried, relevance, linear(video, mode.projection.weight))
    if not need_maps or weights is None:
        return carried, None, None
    intra_map, cross_map = mean_map(weights, attention.rate)
    return carried, intra_map, cross_map


def _stacked(*layers: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer that computes several ones side by side."""
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


class _SplitBoth(Function):
    """Queries, keys and values of both modes (B, T, 2, K, 6 d) to heads (3, 2, B, T, 2, H, K, e), side by side.

    Those keys and values of the cross mode that stand beside a modality's queries are the other modality's.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, num_heads: int) -> Tensor:
        ctx.shape, ctx.dtype = projected.shape, projected.dtype
        packed = by_head(projected, 6, num_heads)
        heads = projected.new_empty(3, 2, *packed.shape[1:], dtype=heads_type(projected))
        for to, source in _counterparts(heads, packed):
            to.copy_(source)
        return heads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        out = gradient.new_empty(ctx.shape, dtype=ctx.dtype)
        for source, to in _counterparts(gradient, by_head(out, 6, gradient.shape[-3])):
            to.copy_(source)
        return out, None


def _counterparts(heads: Tensor, packed: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What belongs together in (3, 2, B, T, 2, H, K, e) and in (6, B, T, 2, H, K, e)."""
    intra, cross = packed.unflatten(0, (2, 3))
    exchanged = [(heads[1:, 1, :, :, m], cross[1:, :, :, 1 - m]) for m in (0, 1)]
    return [(heads[:, 0], intra), (heads[0, 1], cross[0]), *exchanged]
