"""Multi-head attention, shared by the networks: among classes (MM-CSE) or among segments (HAN, VALOR)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmcse.models.dropout import check_rate, keep_mask, keep_scale
from mmcse.models.linear import Linear, linear

_SMALL_HEAD = 512
"""Numbers in a head's keys; measured on 25 x 16 the fused kernel takes 1.4 to 2 times as long, on 50 x 16 no longer."""

_LEAST_SUM = 2.0**-100
"""Of exponentials in a row: what is lost below the least number of single precision is nothing to it."""


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
        heads = _Split.apply(query, context, self.num_heads)
        gathered, weights = weighted_sum(heads, self.rate, need_map or self.training)  # type: ignore[arg-type]
        [gathered] = merge_heads(gathered.unsqueeze(0), query.dtype)
        out = linear(gathered, self.scaled_out_proj(), self.out_proj.bias)
        return out, mean_map(weights) * keep_scale(self.rate) if need_map else None

    @property
    def rate(self) -> float:
        """Of the dropout as things are: 0 but in training."""
        return self.dropout if self.training else 0.0

    def scaled_out_proj(self) -> Tensor:
        """The output's weight with the factor of dropout, which stands there because there is least to multiply."""
        return self.out_proj.weight * keep_scale(self.rate) if self.rate else self.out_proj.weight

    def _project(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (..., n, dim), and keys and values side by side, (..., n, 2 dim)."""
        weight, bias, dim = self.in_proj.weight, self.in_proj.bias, tokens.shape[-1]
        if context is tokens:
            return self.in_proj(tokens).split((dim, 2 * dim), dim=-1)
        return linear(tokens, weight[:dim], bias[:dim]), linear(context, weight[dim:], bias[dim:])


def weighted_sum(heads: Tensor, rate: float, need_weights: bool) -> tuple[Tensor, Tensor | None]:
    """Attention with dropout on its weights.

    Args:
        heads: (3, ..., H, n, e), queries, keys and values of heads of width e.
        rate: of the dropout.
        need_weights: they are needed, by dropout, a gradient or a map; otherwise none are made of large heads.

    Returns:
        What was gathered, (..., H, n, e), and what the values were weighted with, (..., H, n, n), or None; both without
        the factor that keeps the mean (`keep_scale`), which costs less elsewhere.
    """
    if not (need_weights or rate or _is_small(heads)):
        query, key, value = heads.flatten(1, -4)  # PyTorch's fused kernels want one axis for all leading ones
        return F.scaled_dot_product_attention(query, key, value).unflatten(0, heads.shape[1:-3]), None
    gathered, weights = _WeightedSum.apply(heads.flatten(1, -3), rate, need_weights)  # type: ignore[misc]
    leading = heads.shape[1:-2]
    return gathered.unflatten(0, leading), None if weights is None else weights.unflatten(0, leading)


def _is_small(heads: Tensor) -> bool:
    """Whether sets and heads are so small that on a CPU PyTorch's fused kernel is slower than its steps."""
    return heads.device.type == "cpu" and heads.shape[-2] * heads.shape[-1] <= _SMALL_HEAD


def mean_map(weights: Tensor | None) -> Tensor:
    """Weights (..., H, n, n) of `weighted_sum` to the map of attention (..., n, n): the mean over heads."""
    assert weights is not None  # they were asked for
    return weights.mean(dim=-3, dtype=torch.promote_types(weights.dtype, torch.float32))


def heads_type(x: Tensor) -> torch.dtype:
    """The precision in which heads are computed.

    That of the tokens; but single precision for float16 on a CPU, in which exponentials would soon be out of range.
    """
    return torch.float32 if x.device.type == "cpu" and x.dtype == torch.float16 else x.dtype


def merge_heads(heads: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(parts, ..., H, n, e) to a tensor (..., n, dim) for each part, of the given type."""
    return _Merge.apply(heads, dtype)  # type: ignore[return-value]


class _WeightedSum(Function):
    """softmax(Q K^T / sqrt(e)) with dropout, times V, with its gradient by hand.

    The weights are larger than all else, so what counts is how often they are read and written.
    """

    @staticmethod
    def forward(ctx: Any, heads: Tensor, rate: float, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        query, key, value = heads  # (sets, n, e)
        with torch.autocast(heads.device.type, enabled=False):
            exponentials, sums = _exponentials(query, key)
            if not (sums is None or need_weights or rate or ctx.needs_input_grad[0]):
                gathered = exponentials @ value
                return gathered.div_(_spread(sums, gathered)), None  # what was gathered is less to divide
            weights = exponentials if sums is None else exponentials.div_(_spread(sums, exponentials))
            kept = keep_mask(weights, rate).mul_(weights) if rate else weights
            ctx.save_for_backward(heads, weights, kept)
            ctx.set_materialize_grads(False)
            return kept @ value, kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        heads, weights, kept = ctx.saved_tensors
        query, key, value = heads
        of_gathered, of_kept = gradients  # None where a loss does not depend on it
        if of_gathered is None:
            of_gathered = torch.zeros_like(value)
        by_weight = of_gathered @ value.mT
        if of_kept is not None:
            by_weight += of_kept
        by_weight.mul_(kept)  # and of the softmax: w * (g - sum(w * g))
        by_score = by_weight.addcmul_(weights, _spread(_row_sums(by_weight), by_weight), value=-1)
        of_heads, scale = torch.empty_like(heads), heads.shape[-1] ** -0.5
        _scaled_product(by_score, key, scale, out=of_heads[0])
        _scaled_product(by_score.mT, query, scale, out=of_heads[1])
        torch.bmm(kept.mT, of_gathered, out=of_heads[2])
        return of_heads, None, None


def _exponentials(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor | None]:
    """Exponentials of the scores Q K^T / sqrt(e), and the sums of their rows; or the softmax of the scores, and None.

    Softmax does not depend on what is subtracted from a row of scores. That is usually its maximum, so that no
    exponential overflows; on a CPU finding it takes longer than all the rest. Where exponentials turn out to be in
    range without, nothing is subtracted.
    """
    scale = query.shape[-1] ** -0.5
    scores = _scaled_product(query, key.mT, scale)
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():  # of the range of float32 there, at least
        sums = _row_sums(scores.exp_())
        least, largest = sums.aminmax()
        if least >= _LEAST_SUM and largest <= 1 / _LEAST_SUM:  # not so with a NaN among them
            return scores, sums
        scores = _scaled_product(query, key.mT, scale)
    return scores.softmax(dim=-1), None


def _row_sums(x: Tensor) -> Tensor:
    """Sums of rows, (..., n, m) to (..., n, 1)."""
    return x @ x.new_ones(x.shape[-1], 1) if _is_short(x) else x.sum(dim=-1, keepdim=True)


def _spread(column: Tensor, x: Tensor) -> Tensor:
    """A column (..., n, 1) as something to be combined with x, (..., n, m), element by element."""
    return column @ column.new_ones(1, x.shape[-1]) if _is_short(x) else column


def _is_short(x: Tensor) -> bool:
    """Whether PyTorch is slow to sum and to broadcast along rows: in bfloat16 on a CPU; products do that sooner."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.compiler.is_compiling()


def _scaled_product(a: Tensor, b: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """Products a @ b of batches of matrices, times a number."""
    if out is None:
        out = a.new_empty(*a.shape[:-1], b.shape[-1])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


class _Split(Function):
    """Queries (..., n, dim) and context (..., n, 2 dim) to heads (3, ..., H, n, e), side by side in memory."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, context: Tensor, num_heads: int) -> Tensor:
        ctx.dtype = query.dtype
        *leading, n, dim = query.shape
        heads = query.new_empty(3, *leading, num_heads, n, dim // num_heads, dtype=heads_type(query))
        heads[:1].copy_(by_head(query, 1, num_heads))
        heads[1:].copy_(by_head(context, 2, num_heads))
        return heads

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        return _merged(gradient[:1], ctx.dtype), _merged(gradient[1:], ctx.dtype), None


class _Merge(Function):
    """Heads to tokens, a part for each of the first axis."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        ctx.num_heads, ctx.dtype = heads.shape[-3], heads.dtype
        return tuple(_merged(part.unsqueeze(0), dtype) for part in heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        views = [by_head(gradient, 1, ctx.num_heads) for gradient in gradients]
        heads = gradients[0].new_empty(len(views), *views[0].shape[1:], dtype=ctx.dtype)
        for part, view in zip(heads, views, strict=True):
            part.copy_(view[0])
        return heads, None


def by_head(x: Tensor, parts: int, num_heads: int) -> Tensor:
    """(..., n, parts * dim) seen as (parts, ..., H, n, e)."""
    return x.unflatten(-1, (parts, num_heads, -1)).movedim(-3, 0).transpose(-2, -3)


def _merged(heads: Tensor, dtype: torch.dtype) -> Tensor:
    """(parts, ..., H, n, e) to (..., n, parts * dim), of the given type, in one pass."""
    parts, *leading, num_heads, n, e = heads.shape
    out = heads.new_empty(*leading, n, parts * num_heads * e, dtype=dtype)
    by_head(out, parts, num_heads).copy_(heads)
    return out
