"""How much a token has in common with its class's feature of the whole video."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_LEAST_NORM = 1e-8
"""As in `torch.nn.functional.cosine_similarity`: norms count as at least this."""


def relu_cosine(x: Tensor, reference: Tensor, shared: int) -> Tensor:
    """Cosine similarity of ReLU(x) and a reference that is shared along an axis.

    What `F.cosine_similarity(x.relu(), reference, dim=-1)` gives, in half of its passes over x.

    Args:
        x: (..., d).
        reference: (..., d), of length 1 along `shared`.
        shared: the axis along which x varies and the reference does not.

    Returns:
        Cosines (..., 1).
    """
    return _ReluCosine.apply(x, reference, shared)  # type: ignore[return-value]


class _ReluCosine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, reference: Tensor, shared: int) -> Tensor:
        x = x.relu()
        norm, reference_norm = (
            torch.linalg.vector_norm(f, dim=-1, keepdim=True).clamp_min_(_LEAST_NORM) for f in (x, reference)
        )
        unit = reference / reference_norm
        cosine = (x * unit).sum(dim=-1, keepdim=True).div_(norm)
        ctx.save_for_backward(x, unit, norm, reference_norm, cosine)
        ctx.shared = shared
        return cosine

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, unit, norm, reference_norm, cosine = ctx.saved_tensors
        share = gradient / norm
        of_unit = (x * share).sum(dim=ctx.shared, keepdim=True)
        of_reference = of_unit.addcmul_(unit, (of_unit * unit).sum(dim=-1, keepdim=True), value=-1).div_(reference_norm)
        of_x = (unit * share).addcmul_(x, cosine * share / norm, value=-1)
        return torch.ops.aten.threshold_backward(of_x, x, 0), of_reference, None
