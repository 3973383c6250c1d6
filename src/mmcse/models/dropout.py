"""Dropout whose mask is cheap on a CPU."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.errors import UserError

_LEVELS = 1 << 16
"""What a draw of 16 bits can be."""


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
    Here an element costs 16 bits of NumPy's fastest generator instead, seeded by PyTorch's. So the rate is rounded to a
    multiple of 1/65,536 (0.1 to 0.100006).

    Args:
        x: the elements.
        rate: probability of an element to be dropped, above 0 and below 1.
    """
    if x.device.type != "cpu":
        return (torch.rand(x.shape, device=x.device) >= _num_dropped(rate) / _LEVELS).to(x.dtype)
    return _compiled_mask(x.detach(), rate) if torch.compiler.is_compiling() else _cpu_mask(x, rate)


def _cpu_mask(x: Tensor, rate: float) -> Tensor:
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(-(-x.numel() // 4))  # of 64 bits: four draws each
    draws = torch.from_numpy(words.view(np.int16))[: x.numel()].view(x.shape)
    return torch.ge(draws, _num_dropped(rate) - _LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))


_compiled_mask = torch.library.custom_op(
    "mmcse::keep_mask", _cpu_mask, mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
"""What a compiler makes of it, which cannot look into NumPy: a call."""
_compiled_mask.register_fake(lambda x, rate: torch.empty(x.shape, dtype=x.dtype))


def keep_scale(rate: float) -> float:
    """What dropout multiplies the elements with that it keeps, so that their mean stays."""
    return _LEVELS / (_LEVELS - _num_dropped(rate)) if rate else 1.0


def _num_dropped(rate: float) -> int:
    """How many of all levels a draw is dropped at."""
    return min(max(1, round(rate * _LEVELS)), _LEVELS - 1)


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
