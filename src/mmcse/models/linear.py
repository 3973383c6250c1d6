"""Linear layers that are fast in single precision on any CPU."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_IMAGES, _MOST_IMAGES = 16, 64


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, in single precision on a CPU by the faster of two ways.

    For float32 matrices PyTorch calls MKL, into whose result it copies the bias beforehand, which for wide layers takes
    as long as half of the product: here the bias is added afterwards. On processors that are not Intel's, MKL uses half
    of the vector units. PyTorch's convolutions call oneDNN, which uses all of them: as a convolution with a 1x1 kernel
    the layer is twice as fast there, though slower on Intel's own.

    Args:
        x: (..., C) input.
        weight: (N, C).
        bias: (N,) or None.

    Returns:
        (..., N), equal to `F.linear` up to rounding.
    """
    if not _is_single_on_cpu(x):
        return F.linear(x, weight, bias)
    images = _num_images(x) if _is_slow_in_mkl() else None
    if images is None:
        return F.linear(x, weight) if bias is None else F.linear(x, weight).add_(bias)
    pixels = x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (images, C, rows, 1), channels last
    out = F.conv2d(pixels, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def _is_single_on_cpu(x: Tensor) -> bool:
    if torch.compiler.is_compiling():  # asked first: the compiler cannot look into what follows
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _num_images(x: Tensor) -> int | None:
    """Into how many images the rows of x are divided: enough for oneDNN to be chosen; None where it cannot be."""
    rows = x.numel() // x.shape[-1]
    return next((n for n in range(_LEAST_IMAGES, _MOST_IMAGES) if rows and rows % n == 0), None)


@cache
def _is_slow_in_mkl() -> bool:
    """Whether this is a processor that MKL does not use fully, and oneDNN does."""
    cpuinfo = Path("/proc/cpuinfo")
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return has_both and cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text()


class Linear(nn.Linear):
    """`torch.nn.Linear` by way of `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that PyTorch gives it
        """(..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)
