"""Frames to what image networks expect, as the published features were made.

Each function takes frames (F, 3, H, W) in uint8 and gives them normalised, in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def squash(frames: Tensor, size: int) -> Tensor:
    """Both sides to `size` by plain bilinear interpolation, (F, 3, size, size) in [0, 1].

    Without a low-pass filter: VALOR resized tensors with torchvision 0.13, which had none by default.
    """
    return F.interpolate(frames.float() / 255, size=(size, size), mode="bilinear", align_corners=False)


def squash_smoothly(frames: Tensor, size: int) -> Tensor:
    """Both sides to `size`, as Pillow resizes an image (with a low-pass filter, rounded to 8 bits)."""
    return _pillow_resize(frames, size, size)


def crop(frames: Tensor, shorter: int, size: int) -> Tensor:
    """The shorter side to `shorter`, as Pillow resizes, and the middle (F, 3, size, size) of that, in [0, 1]."""
    height, width = frames.shape[-2:]
    scale = shorter / min(height, width)
    frames = _pillow_resize(frames, int(height * scale + 1e-6), int(width * scale + 1e-6))
    top, left = (round((length - size) / 2) for length in frames.shape[-2:])
    return frames[..., top : top + size, left : left + size]


def normalise(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Channels (F, 3, ...) minus their mean, over their standard deviation."""
    statistics = (
        torch.tensor(values, device=frames.device).view(3, *[1] * (frames.ndim - 2)) for values in (mean, std)
    )
    shift, scale = statistics
    return (frames - shift) / scale


def _pillow_resize(frames: Tensor, height: int, width: int) -> Tensor:
    smooth = F.interpolate(frames.float(), size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return smooth.round().clamp(0, 255) / 255
