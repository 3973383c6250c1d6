"""Dropout whose mask is cheap on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.errors import UserError

_LEVELS = 1 << 16


def check_rate(rate: float) -> float:
    """The rate, if it is one.

    Raises:
        UserError: it is not a probability below one.
    """
    if not 0 <= rate < 1:
        raise UserError(f"A rate of dropout is {rate}; expected 0 or more, and less than 1.")
    return rate


def keep_mask(x: Tensor, rate: float) -> tuple[Tensor, float]:
    """Which elements dropout keeps, and what it multiplies them with to keep the mean.

    PyTorch draws one random number for every element, one after another, which on a CPU takes a fifth of a training
    step. Here an element costs 16 random bits instead, so there the rate is rounded to a multiple of 1/65,536 (0.1 to
    0.100006), and the factor is that of the rounded rate.

    Args:
        x: the elements.
        rate: probability of an element to be dropped, above 0 and below 1.

    Returns:
        The mask, 1 where kept and else 0, in the shape and dtype of x (on a CPU, products with it are far faster than
        a selection by booleans), and the factor.
    """
    if x.device.type != "cpu":
        return (torch.rand(x.shape, device=x.device) >= rate).to(x.dtype), 1 / (1 - rate)
    num_dropped = min(max(1, round(rate * _LEVELS)), _LEVELS - 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)  # all 64 bits, four draws of 16
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    mask = torch.ge(draws, num_dropped - _LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
    return mask, _LEVELS / (_LEVELS - num_dropped)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero elements with probability `rate` and scale the others by 1 / (1 - rate)."""
    if x.device.type != "cpu" or not 0 < rate < 1:
        return F.dropout(x, rate)
    mask, scale = keep_mask(x, rate)
    return x * mask.mul_(scale)


class Dropout(nn.Module):
    """`dropout` while training, nothing otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = check_rate(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """Shown by `print(network)`."""
        return f"rate={self.rate}"
