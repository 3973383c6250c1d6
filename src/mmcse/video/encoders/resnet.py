"""ResNet-152 (He et al., CVPR 2016): 2048 features of every frame.

The network is written out here, with the names torchvision gives its parameters, because torchvision's wheels only
work beside the one build of PyTorch they were compiled for.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from mmcse.video.decode import Clip
from mmcse.video.encoders import images
from mmcse.video.encoders.base import Weights, frames_of, per_clip
from mmcse.video.encoders.files import FileEncoder, fill

BATCH = 80
"""Frames that are encoded together."""


class Bottleneck(nn.Module):
    """A residual block: 1 x 1, 3 x 3 (with the stride) and 1 x 1 convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out)).relu()
        return (self.bn3(self.conv3(out)) + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """A ResNet of bottlenecks up to its pooled features.

    Args:
        blocks: of each of the four stages; (3, 8, 36, 3) is ResNet-152.
        width: channels after the first convolution.
    """

    def __init__(self, blocks: Sequence[int] = (3, 8, 36, 3), width: int = 64) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs, stages = width, []
        for stage, count in enumerate(blocks):
            inner, layers = width * 2**stage, []
            for block in range(count):
                layers.append(Bottleneck(inputs, inner, 2 if stage and not block else 1))
                inputs = 4 * inner
            stages.append(nn.Sequential(*layers))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.dim = inputs

    @classmethod
    def of(cls, state: Mapping[str, Tensor], name: str) -> Self:
        """The network of a state dict, of the size its parameters have; the classifier is left out."""
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        blocks = [len({k.split(".")[1] for k in state if k.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4)]
        network = cls(blocks, len(state.get("bn1.weight", "?" * 64)))
        fill(network, state, name)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 32 * width)."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(-2, -1))


class ResNet152(FileEncoder):
    """Frames to 2048-d features, before the classifier.

    LLP's recipe: shorter side to 256, the middle 224 x 224, ImageNet's normalisation, every one of the 80 frames.
    """

    name = "ResNet-152"
    stream: ClassVar[Literal["visual"]] = "visual"
    sample_rate = None
    weights = Weights(
        "resnet152-b121ed2d.pth",
        "https://download.pytorch.org/models/resnet152-b121ed2d.pth",
        "b121ed2d",
        "BSD-3-Clause",
        241_530_880,
    )
    architecture = ResNet

    def tokens(self, num_segments: int) -> int:
        """N: all frames of 10 seconds, as LLP has them; of other windows the mean of each segment."""
        return 80 if num_segments == 10 else num_segments

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """(B, 80, 2048), or (B, T, 2048) of windows that are not 10 seconds long."""
        with self._compute.running():
            frames = torch.cat([images.crop(part, 256, 224) for part in frames_of(clips, self._compute)])
            pixels = images.normalise(frames, images.IMAGENET_MEAN, images.IMAGENET_STD)
            features = per_clip([self.network(part) for part in self._compute.batches(pixels, BATCH)], clips)
        tokens = self.tokens(clips[0].num_segments)
        return features.reshape(len(clips), tokens, -1, self.dim).mean(axis=2)
