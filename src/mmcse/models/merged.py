"""An FGSE layer of the full model in fewer and larger products: what `FGSELayer` computes, up to rounding.

Everything that reads the layer's tokens q reads them in one product, and products that follow each other without a
nonlinearity between them are merged (1 is intra, 2 is cross; a is what attention gathered, O its output's weight):

    P1 U1 + P2 U2 = (P1 + P2) q + r1 P1 g1 + r2 P2 g2        a video feature g has no time axis
    G S2 = G q + (G O2) a2                                   the other modality's video feature needs G q, too

so a token costs 20 d^2 multiply-adds for 22 d^2, in fewer operations.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmcse.models import kernels
from mmcse.models.attention import by_head, heads_type, mean_map, merge_heads, weighted_sum
from mmcse.models.dropout import keep_scale
from mmcse.models.linear import linear, product_type
from mmcse.models.opaque import opaque
from mmcse.models.similarity import relu_cosine

Shares = tuple[Tensor, Tensor | None, Tensor | None]
"""P1 U1 + P2 U2, (B, T, 2, K, d), and the co-occurrence maps (B, T, 2, K, K) of the intra and the cross mode."""


class Merged(NamedTuple):
    """Weights, and biases, of a layer's products."""

    reading: Tensor
    """(8 d, d): queries, keys and values of the intra and of the cross mode, G, and P1 + P2."""
    reading_bias: Tensor
    output_1: Tensor
    """O1."""
    output_bias_1: Tensor
    segment_1: Tensor
    segment_bias_1: Tensor
    video_1: Tensor
    video_bias_1: Tensor
    output_2: Tensor
    """G O2."""
    output_bias_2: Tensor
    projection_1: Tensor
    projection_2: Tensor


def merged_shares(layer: Any, tokens: Tensor, need_maps: bool) -> Shares:
    """P1 U1 + P2 U2 of a layer that has all of its parts.

    Args:
        layer: an `FGSELayer` with SECM and LGSF in both modes, the video feature added to the layer's input.
        tokens: (B, T, 2, K, d).
        need_maps: also return the maps.
    """
    attention, weights = layer.intra.secm.attention, layer.kept_weights.get(layer, tokens.device.type)
    product = linear(tokens, weights.reading, weights.reading_bias)
    attends, averages, fuses = (
        (kernels.attend, kernels.relu_mean, kernels.fuse) if kernels.serve(product) else (attend, relu_mean, fuse)
    )
    gathered_1, gathered_2, joint_q, carried, maps = attends(
        product, tokens.shape[-1], attention.num_heads, attention.rate, need_maps
    )

    enhanced = tokens + linear(gathered_1, weights.output_1, weights.output_bias_1)  # S1
    segment_1 = linear(enhanced, weights.segment_1, weights.segment_bias_1)
    joint_a = linear(gathered_2, weights.output_2, weights.output_bias_2)
    videos = [
        averages(linear(enhanced, weights.video_1, weights.video_bias_1)),  # g1, (B, 1, 2, K, d)
        averages(joint_q).flip(2),  # g2
    ]
    shares = [linear(videos[0], weights.projection_1), linear(videos[1], weights.projection_2)]
    out = fuses(carried, segment_1, joint_q, joint_a, videos, shares)
    if maps is None:
        return out, None, None
    intra_map, cross_map = maps * keep_scale(attention.rate)
    return out, intra_map, cross_map


def attend(
    product: Tensor, dim: int, num_heads: int, rate: float, need_maps: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Attention of both modes, and the two other readings of the tokens.

    Args:
        product: (B, T, 2, K, 8 d): queries, keys and values of the intra and of the cross mode, G q, (P1 + P2) q.
        dim: d.
        num_heads: H.
        rate: of the dropout on the weights.
        need_maps: also give the maps.

    Returns:
        What was gathered in the intra and in the cross mode, G q, and (P1 + P2) q, each (B, T, 2, K, d); and the maps
        of both modes, (2, B, T, 2, K, K), or None. The factor of dropout is left out (`keep_scale`).
    """
    heads, joint_q, carried = _read(product, dim, num_heads)
    gathered, relations = weighted_sum(heads, rate, need_maps or product.requires_grad)
    gathered_1, gathered_2 = merge_heads(gathered, carried.dtype)
    return gathered_1, gathered_2, joint_q, carried, mean_map(relations) if need_maps else None


def relu_mean(x: Tensor) -> Tensor:
    """Mean over time of ReLU(x), (B, T, 2, K, d) to (B, 1, 2, K, d)."""
    return x.relu().mean(dim=1, keepdim=True)


def fuse(
    carried: Tensor, segment_1: Tensor, joint_q: Tensor, joint_a: Tensor, videos: list[Tensor], shares: list[Tensor]
) -> Tensor:
    """What the layer carries on, with the video features as far as they are relevant to a token.

    Args:
        carried: (B, T, 2, K, d).
        segment_1: of that shape, before its ReLU.
        joint_q: G q.
        joint_a: G O2 a2; both together are G S2, the other segment feature before its ReLU.
        videos: g1 and g2, (B, 1, 2, K, d).
        shares: P1 g1 and P2 g2.

    Returns:
        carried + r1 P1 g1 + r2 P2 g2, (B, T, 2, K, d).
    """
    for segment, video, share in zip((segment_1, joint_q + joint_a), videos, shares, strict=True):
        carried = torch.addcmul(carried, relu_cosine(segment, video, shared=1).sigmoid(), share)
    return carried


def _merge(layer: Any) -> Merged:
    intra, cross = layer.intra, layer.cross
    attention_1, attention_2 = intra.secm.attention, cross.secm.attention
    joint = cross.lgsf.segment  # G of segment and video alike
    readers = (attention_1.in_proj, attention_2.in_proj, joint)
    return Merged(
        torch.cat([*(reader.weight for reader in readers), intra.projection.weight + cross.projection.weight]),
        torch.cat([*(reader.bias for reader in readers), intra.projection.bias + cross.projection.bias]),
        attention_1.scaled_out_proj(),
        attention_1.out_proj.bias,
        intra.lgsf.segment.weight,
        intra.lgsf.segment.bias,
        intra.lgsf.video.weight,
        intra.lgsf.video.bias,
        joint.weight @ attention_2.scaled_out_proj(),
        joint.weight @ attention_2.out_proj.bias,
        intra.projection.weight,
        cross.projection.weight,
    )


class KeptWeights:
    """A layer's merged weights: made in every pass that needs a gradient, and kept between passes that do not.

    They are made anew when a parameter has changed. PyTorch counts all changes but those made through `.data`, so they
    are forgotten, too, when a layer goes on training.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Make them anew the next time."""
        self._key: tuple[Any, ...] = ()
        self._weights: Merged | None = None

    def get(self, layer: Any, device_type: str) -> Merged:
        """Merged weights of a layer as it is now, in the type in which automatic mixed precision multiplies."""
        if layer.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return _merge(layer)
        parameters = [p for mode in (layer.intra, layer.cross) for p in mode.parameters()]
        if parameters[0].is_inference():  # made in `torch.inference_mode`: changes are not counted
            return _merge(layer)
        dtype = product_type(parameters[0].dtype, device_type)
        key = dtype, *((p.data_ptr(), p._version) for p in parameters)
        if self._weights is None or key != self._key:
            self._key, self._weights = key, Merged(*(tensor.to(dtype) for tensor in _merge(layer)))
        return self._weights


def _read(product: Tensor, dim: int, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of both modes, side by side as heads, and the two other readings, as they are.

    Args:
        product: (B, T, 2, K, 6 d + d + d).
        dim: d.
        num_heads: H.

    Returns:
        Heads (3, 2, B, T, 2, H, K, e), where those keys and values of the cross mode that stand beside a modality's
        queries are the other modality's; and twice (B, T, 2, K, d).
    """
    return _Read.apply(product, dim, num_heads)  # type: ignore[return-value]


class _Read(Function):
    """`_read` whose gradient is written once, into one tensor."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, dim: int, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
        return _split_reading(product, dim, num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _join_reading(*gradients), None, None


def _empty_parts(product: Tensor, dim: int, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    *leading, num_tokens, _ = product.shape
    heads = product.new_empty(3, 2, *leading, num_heads, num_tokens, dim // num_heads, dtype=heads_type(product))
    joint_q, carried = (product.new_empty(*leading, num_tokens, dim) for _ in range(2))
    return heads, joint_q, carried


@opaque(_empty_parts)
def _split_reading(product: Tensor, dim: int, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    heads, joint_q, carried = _empty_parts(product, dim, num_heads)
    for part, source in _counterparts(heads, joint_q, carried, product):
        part.copy_(source)
    return heads, joint_q, carried


def _empty_product(heads: Tensor, joint_q: Tensor, carried: Tensor) -> Tensor:
    return carried.new_empty(*carried.shape[:-1], 8 * carried.shape[-1])


@opaque(_empty_product)
def _join_reading(heads: Tensor, joint_q: Tensor, carried: Tensor) -> Tensor:
    product = _empty_product(heads, joint_q, carried)
    for source, part in _counterparts(heads, joint_q, carried, product):
        part.copy_(source)
    return product


def _counterparts(heads: Tensor, joint_q: Tensor, carried: Tensor, product: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What belongs together in heads (3, 2, B, T, 2, H, K, e) with the other readings, and in the product."""
    dim = carried.shape[-1]
    projected, *others = product.split((6 * dim, dim, dim), dim=-1)
    intra, cross = by_head(projected, 6, heads.shape[-3]).unflatten(0, (2, 3))
    exchanged = [(heads[1:, 1, :, :, m], cross[1:, :, :, 1 - m]) for m in (0, 1)]
    return [(heads[:, 0], intra), (heads[0, 1], cross[0]), *exchanged, (joint_q, others[0]), (carried, others[1])]
