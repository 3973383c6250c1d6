"""The gradient of a batch, computed a few videos at a time.

Only one piece's activations are in memory at a time. What a small piece reads and writes fits a processor's cache
better, and the operations of large ones are fewer: on CPUs, pieces of 32 videos were as fast as any, or nearly so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from mmcse.batch import Batch

Losses = dict[str, Tensor]


def in_pieces(losses_of: Callable[[Batch], Losses], batch: Batch, size: int, parameters: Sequence[Tensor]) -> Losses:
    """Losses of a batch whose "total" carries the gradient of the whole batch, though it was computed in pieces.

    Exact for losses that are means over videos, of a network that does not compare them (`compares_videos`): the mean
    over a batch is the mean of its pieces by their lengths. The gradients of a piece are computed here, right after its
    losses, and given out when "total" is differentiated.

    Args:
        losses_of: the losses of a piece.
        batch: B videos.
        size: videos of a piece; the last one may be shorter.
        parameters: what "total" can be differentiated by afterwards.

    Returns:
        The losses of the batch; all but "total" without gradient.
    """
    mean: Losses = {}
    gradients: list[Tensor | None] = [None] * len(parameters)
    for piece in batch.split(size):
        share = len(piece) / len(batch)
        losses = losses_of(piece)
        with torch.autocast(batch.weak.device.type, enabled=False):  # each operation goes back in the type it went
            of_piece = torch.autograd.grad(losses["total"] * share, parameters, allow_unused=True)
        gradients = [
            a if b is None else b.clone() if a is None else a.add_(b)  # a gradient may share its memory with others
            for a, b in zip(gradients, of_piece, strict=True)
        ]
        for name, loss in losses.items():
            mean[name] = mean.get(name, 0) + share * loss.detach()
    return mean | {"total": _KnownGradient.apply(mean["total"], gradients, *parameters)}


def compares_videos(network: nn.Module) -> bool:
    """Whether a network's training mode makes what it says of a video depend on the others of the batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


class _KnownGradient(Function):
    """A number whose gradient by some parameters is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return None, None, *(None if known is None else known * gradient for known in ctx.gradients)
