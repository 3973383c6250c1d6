"""The feed-forward part of a layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmcse.models import kernels
from mmcse.models.dropout import Dropout, keep_mask, keep_scale
from mmcse.models.linear import Linear, linear
from mmcse.models.opaque import opaque


class FeedForward(nn.Sequential):
    """Linear, ReLU, dropout, linear.

    Args:
        dim: width of a token.
        hidden_dim: inner width.
        dropout: rate.
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__(Linear(dim, hidden_dim), nn.ReLU(), Dropout(dropout), Linear(hidden_dim, dim))
        self.rate = dropout

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """(..., dim) to (..., dim)."""
        hidden = self[0](tokens)
        second: Linear = self[3]  # type: ignore[assignment]
        if not self.training or not self.rate:
            return second(F.relu(hidden, inplace=not torch.is_grad_enabled()))
        # the scale of dropout stands at the weights, which are fewer than the hidden units
        return linear(_ReluDropped.apply(hidden, self.rate), second.weight * keep_scale(self.rate), second.bias)


class _ReluDropped(Function):
    """ReLU and dropout, without its scale: what is positive afterwards is just what was neither cut nor dropped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        out = kernels.relu_dropped(x, rate) if kernels.serve(x) else _relu_dropped(x, rate)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (out,) = ctx.saved_tensors
        return _where_positive(gradient, out), None


@opaque(lambda x, rate: x.new_empty(x.shape))
def _relu_dropped(x: Tensor, rate: float) -> Tensor:
    return keep_mask(x, rate).mul_(x).relu_()


@opaque(lambda gradient, out: out.new_empty(out.shape))
def _where_positive(gradient: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(gradient.contiguous(), out, 0)
