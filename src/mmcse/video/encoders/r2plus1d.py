"""R(2+1)D-18 (Tran et al., CVPR 2018), trained on Kinetics-400: 512 features of every second.

The network is written out here for the reason given in `resnet`, with torchvision's names too.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from mmcse.video.decode import Clip
from mmcse.video.encoders import images
from mmcse.video.encoders.base import Weights, frames_of, per_clip
from mmcse.video.encoders.files import FileEncoder, fill

BATCH = 20
"""Seconds of video that are encoded together."""


def factored(inputs: int, outputs: int, inner: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 x 3 convolution as one over space, a norm, and one over time."""
    return nn.Sequential(
        nn.Conv3d(inputs, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(inner),
        nn.ReLU(),
        nn.Conv3d(inner, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class Block(nn.Module):
    """A residual block of two factored convolutions, which have the parameters of the whole ones they stand for."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)
        self.conv1 = nn.Sequential(factored(inputs, outputs, inner, stride), nn.BatchNorm3d(outputs), nn.ReLU())
        self.conv2 = nn.Sequential(factored(outputs, outputs, inner), nn.BatchNorm3d(outputs))
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, time, H, W) to (B, outputs, time / stride, H / stride, W / stride)."""
        return (self.conv2(self.conv1(x)) + (x if self.downsample is None else self.downsample(x))).relu()


class R2Plus1DNetwork(nn.Module):
    """R(2+1)D-18 up to its pooled features.

    Args:
        width: channels after the stem; 64 in the published network.
        stem: channels inside the stem's factored convolution.
    """

    def __init__(self, width: int = 64, stem: int = 45) -> None:
        super().__init__()
        self.dim = 8 * width
        self.stem = nn.Sequential(
            nn.Conv3d(3, stem, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(stem),
            nn.ReLU(),
            nn.Conv3d(stem, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(Block(a, b, 1 if a == b else 2), Block(b, b, 1)) for a, b in pairwise(widths)
        )

    @classmethod
    def of(cls, state: Mapping[str, Tensor], name: str) -> Self:
        """The network of a state dict, of the size its parameters have; the classifier is left out."""
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        width, stem = (len(state.get(f"stem.{layer}.weight", "?" * 64)) for layer in (4, 1))
        network = cls(width, stem)
        fill(network, state, name)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, time, H, W) to (B, 8 * width)."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x))))).mean(dim=(-3, -2, -1))


class R2Plus1D(FileEncoder):
    """Seconds of 8 frames to 512-d features of motion.

    LLP's recipe: both sides to 112, normalisation of Kinetics, runs of 8 frames.
    """

    name = "R(2+1)D-18"
    stream: ClassVar[Literal["motion"]] = "motion"
    sample_rate = None
    weights = Weights(
        "r2plus1d_18-91a641e6.pth",
        "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
        "91a641e6",
        "BSD-3-Clause",
        126_170_000,
    )
    architecture = R2Plus1DNetwork

    def tokens(self, num_segments: int) -> int:
        """N: one a segment."""
        return num_segments

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """(B, T, 512)."""
        segments = len(clips) * clips[0].num_segments
        with self._compute.running():
            frames = torch.cat([images.squash_smoothly(part, 112) for part in frames_of(clips, self._compute)])
            pixels = images.normalise(frames, images.KINETICS_MEAN, images.KINETICS_STD)
            seconds = pixels.view(segments, -1, *pixels.shape[1:]).transpose(1, 2)  # (B * T, 3, 8, H, W)
            return per_clip([self.network(part) for part in self._compute.batches(seconds, BATCH)], clips)
