"""Linear layers that are fast in single precision on any CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_IMAGES, _MOST_IMAGES = 16, 64


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; in single precision on a CPU it is computed as a convolution with a 1x1 kernel.

    For float32 matrices PyTorch calls MKL, which uses half of the vector units of a processor that is not Intel's. Its
    convolutions call oneDNN, which uses all of them: twice as fast there, and no slower elsewhere.

    Args:
        x: (..., C) input.
        weight: (N, C).
        bias: (N,) or None.

    Returns:
        (..., N), equal to `F.linear` up to rounding.
    """
    images = _num_images(x)
    if images is None:
        return F.linear(x, weight, bias)
    pixels = x.reshape(images, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (images, C, rows, 1), channels last
    out = F.conv2d(pixels, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def _num_images(x: Tensor) -> int | None:
    """Into how many images the rows of x are divided: enough for oneDNN to be chosen; None where it cannot be."""
    if torch.compiler.is_compiling():  # asked first: the compiler cannot look into what follows
        return None
    suits = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if not suits or torch.is_autocast_enabled("cpu"):
        return None
    rows = x.numel() // x.shape[-1]
    return next((n for n in range(_LEAST_IMAGES, _MOST_IMAGES) if rows and rows % n == 0), None)


class Linear(nn.Linear):
    """`torch.nn.Linear` by way of `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that PyTorch gives it
        """(..., in_features) to (..., out_features)."""
        return linear(input, self.weight, self.bias)
