"""Multi-head attention, shared by the networks: among classes (MM-CSE) or among segments (HAN, VALOR)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmcse.models.dropout import check_rate, keep_mask
from mmcse.models.linear import Linear, linear

_SMALL_HEAD = 512
"""Numbers in a head's keys; measured on 25 x 16 the fused kernel takes 1.4 to 2 times as long, on 50 x 16 no longer."""


class Attention(nn.Module):
    """Multi-head attention of tokens to a context, with the parameters and the start of PyTorch's own module.

    Unlike `torch.nn.MultiheadAttention` it takes any number of leading axes, and computes weights only on request.

    Args:
        dim: width of a token.
        num_heads: H, a divisor of `dim`.
        dropout: on the attention weights.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, check_rate(dropout)
        self.in_proj = Linear(dim, 3 * dim)  # rows of query, key and value
        self.out_proj = Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, context: Tensor, need_map: bool = False) -> tuple[Tensor, Tensor | None]:
        """Let every token gather from the context of its set.

        Args:
            tokens: (..., n, dim) queries: sets of n tokens.
            context: keys and values, of the same shape; `tokens` itself makes it self attention.
            need_map: also return what the values were weighted with.

        Returns:
            What was gathered, (..., n, dim), and the attention map (..., n, n) or None. The map is the mean over
            heads; its rows (queries) sum to one, up to dropout while training.
        """
        query, context = self._project(tokens, context)
        if not (need_map or self.training or self._is_small(query)):
            return self.out_proj(_gather(query, context, self.num_heads)), None
        gathered, weights = _attend(query, context, self.num_heads, self.dropout if self.training else 0.0)
        return self.out_proj(gathered), weights.mean(dim=-3) if need_map else None

    def _is_small(self, query: Tensor) -> bool:
        """Whether sets and heads are so small that on a CPU PyTorch's fused kernel is slower than its steps."""
        return query.device.type == "cpu" and query.shape[-2] * query.shape[-1] // self.num_heads <= _SMALL_HEAD

    def _project(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (..., n, dim), and keys and values side by side, (..., n, 2 dim)."""
        weight, bias, dim = self.in_proj.weight, self.in_proj.bias, tokens.shape[-1]
        return linear(tokens, weight[:dim], bias[:dim]), linear(context, weight[dim:], bias[dim:])


def _gather(query: Tensor, context: Tensor, num_heads: int) -> Tensor:
    """Attention by PyTorch's fused kernels, which need one axis for all leading ones."""
    rows = query.flatten(0, -3), *context.flatten(0, -3).chunk(2, dim=-1)
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in rows)  # (rows, H, n, e)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(query.shape)


def _attend(query: Tensor, context: Tensor, num_heads: int, rate: float) -> tuple[Tensor, Tensor]:
    """Attention with dropout on its weights.

    Args:
        query: (..., n, dim).
        context: (..., n, 2 dim), keys and values side by side.
        num_heads: H.
        rate: of the dropout.

    Returns:
        What was gathered, (..., n, dim), and what the values were weighted with, (..., H, n, n). Products are computed
        in the type of the queries, everything else in single precision at least: element by element, half precision is
        less exact and, on a CPU, slower.
    """
    leading = query.shape[:-2]
    gathered, weights = _WeightedSum.apply(query.flatten(0, -3), context.flatten(0, -3), num_heads, rate)  # type: ignore
    return gathered.unflatten(0, leading), weights.unflatten(0, leading)


class _WeightedSum(Function):
    """softmax(Q K^T / sqrt(e)) with dropout, times V, with its gradient by hand.

    The weights are larger than all else, so what counts is how often they are read and written. Queries, keys and
    values are copied once, to where a head's are side by side.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, context: Tensor, num_heads: int, rate: float) -> tuple[Tensor, Tensor]:
        # (1, rows, H, n, e) and (2, rows, H, n, e)
        [query_heads], (key, value) = (_split_heads(x, parts, num_heads) for x, parts in ((query, 1), (context, 2)))
        query_heads *= query_heads.shape[-1] ** -0.5
        weights = (query_heads @ key.mT).softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32))
        kept = weights
        if rate:
            mask, scale = keep_mask(weights, rate)
            kept = mask.mul_(scale).mul_(weights)
        factors = kept.to(query.dtype)
        ctx.save_for_backward(query_heads, key, value, weights, factors)
        ctx.set_materialize_grads(False)
        return _merge_heads((factors @ value).unsqueeze(0)), kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, weights, kept = ctx.saved_tensors
        of_output, of_kept = gradients  # None where a loss does not depend on it
        of_gathered = torch.zeros_like(query) if of_output is None else _split_heads(of_output, 1, query.shape[1])[0]
        by_weight = of_gathered @ value.mT
        if of_kept is not None:
            by_weight += of_kept
        by_weight = by_weight.mul_(kept).to(weights.dtype)  # and of the softmax: w * (g - sum(w * g))
        by_score = by_weight.addcmul_(weights, by_weight.sum(dim=-1, keepdim=True), value=-1).to(query.dtype)
        of_query = (by_score @ key).mul_(query.shape[-1] ** -0.5)
        of_context = torch.stack((by_score.mT @ query, kept.mT @ of_gathered))
        return _merge_heads(of_query.unsqueeze(0)), _merge_heads(of_context), None, None


def _split_heads(x: Tensor, parts: int, num_heads: int) -> Tensor:
    """(rows, n, parts * dim) to (parts, rows, H, n, e), copied side by side."""
    heads = x.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return heads.clone(memory_format=torch.contiguous_format)


def _merge_heads(heads: Tensor) -> Tensor:
    """(parts, rows, H, n, e) to (rows, n, parts * dim), contiguous."""
    return heads.permute(1, 3, 0, 2, 4).flatten(2)
