"""Dropout whose mask is cheap on a CPU."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.opaque import opaque

_LEVELS = 1 << 8
"""What a draw of 8 bits can be."""


def check_rate(rate: float) -> float:
    """The rate, if it is one.

    Raises:
        UserError: it is not a probability below one.
    """
    if not 0 <= rate < 1:
        raise UserError(f"A rate of dropout is {rate}; expected 0 or more, and less than 1.")
    return rate


def keep_mask(x: Tensor, rate: float) -> Tensor:
    """Which elements dropout keeps: 1 where kept and else 0, in the shape and dtype of x.

    (On a CPU, products with numbers are far faster than a selection by booleans.)

    PyTorch draws a random number for every element, one after another, which on a CPU takes a fifth of a training step.
    Here an element costs 8 bits of NumPy's fastest generator instead, seeded by PyTorch's. It is dropped if they are
    below a threshold. Since a rate is seldom a multiple of 1/256, the threshold is rounded up or down by chance, for
    each place of the last two axes, so that every element is dropped with just the rate as its probability.

    Args:
        x: the elements.
        rate: probability of an element to be dropped, above 0 and below 1.
    """
    if x.device.type != "cpu" or rate > 1 - 1 / _LEVELS:  # whose threshold may be more than 8 bits hold
        return (torch.rand(x.shape, device=x.device) >= rate).to(x.dtype)
    return _cpu_mask(x.detach(), rate)


@opaque(lambda x, rate: torch.empty(x.shape, dtype=x.dtype))
def _cpu_mask(x: Tensor, rate: float) -> Tensor:
    bits = np.random.SFC64(draw_seed())
    words = bits.random_raw(-(-x.numel() // 8))  # of 64 bits: eight draws each
    draws = torch.from_numpy(words.view(np.uint8))[: x.numel()].view(x.shape)
    least, rest = divmod(rate * _LEVELS, 1)
    up = np.random.Generator(bits).random(x.shape[-2:], dtype=np.float32) < rest
    thresholds = torch.from_numpy(np.asarray(least + up, dtype=np.uint8))
    return torch.ge(draws, thresholds, out=torch.empty(x.shape, dtype=x.dtype))


def draw_seed() -> int:
    """A number by chance, from PyTorch's generator for CPUs, that another generator begins with."""
    return int(torch.empty((), dtype=torch.int64).random_())


def keep_scale(rate: float) -> float:
    """What dropout multiplies the elements with that it keeps, so that their mean stays."""
    return 1 / (1 - rate)


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero elements with probability `rate` and scale the others by 1 / (1 - rate)."""
    if x.device.type != "cpu" or not 0 < rate < 1:
        return F.dropout(x, rate)
    return x * keep_mask(x, rate).mul_(keep_scale(rate))


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
