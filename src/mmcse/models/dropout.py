"""Dropout whose mask is cheap on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero elements with probability `rate` and scale the others by 1 / (1 - rate).

    PyTorch draws one random number for every element, one after another, which on a CPU takes a fifth of a training
    step. Here an element costs 16 random bits instead, so there the rate is rounded to a multiple of 1/65,536 (0.1 to
    0.100006); the scale is that of the rounded rate, so that the mean is kept. Other devices use PyTorch's own.
    """
    if x.device.type != "cpu" or not 0 < rate < 1:
        return F.dropout(x, rate)
    dropped = min(max(1, round(rate * _LEVELS)), _LEVELS - 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)  # all 64 bits, four draws of 16
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    mask = (draws >= dropped - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
    return x * mask


class Dropout(nn.Module):
    """`dropout` while training, nothing otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """Shown by `print(network)`."""
        return f"rate={self.rate}"
