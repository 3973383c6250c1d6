"""VGGish (Hershey et al., ICASSP 2017), trained on AudioSet's precursor: 128 features of every second of sound.

Front end and network as published with AudioSet; parameters have the names of its port to PyTorch (torchvggish).
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.video.decode import Clip
from mmcse.video.encoders.base import Weights, per_clip, sound_of
from mmcse.video.encoders.files import FileEncoder, fill
from mmcse.video.encoders.spectrogram import magnitudes, mel_filters

RATE = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
FRAMES, BANDS = 96, 64  # of an example: 0.96 s
BATCH = 40
"""Seconds of sound that are encoded together."""


def log_mel(sound: Tensor) -> Tensor:
    """What VGGish sees of seconds of sound (B, 16000) in [-1, 1]: the first 0.96 s, (B, 96, 64)."""
    filters = mel_filters(FFT // 2 + 1, RATE, BANDS, 125, 7500, triangles_in="mel")
    spectrum = magnitudes(sound, WINDOW, HOP, FFT, centred=False)[:, :FRAMES]
    return (spectrum @ filters + 0.01).log()


class VGGishNetwork(nn.Module):
    """The convolutions and the three linear layers, all followed by a ReLU.

    Args:
        channels: of the six convolutions.
        widths: of the three linear layers.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 256, 512, 512),
        widths: Sequence[int] = (4096, 4096, 128),
    ) -> None:
        super().__init__()
        pooled = (0, 1, 3, 5)  # convolutions that are followed by a 2 x 2 pooling
        inputs, layers = 1, []
        for number, outputs in enumerate(channels):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if number in pooled else []
            inputs = outputs
        self.features = nn.Sequential(*layers)
        inputs, layers = inputs * (FRAMES // 16) * (BANDS // 16), []
        for outputs in widths:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        self.embeddings = nn.Sequential(*layers)
        self.dim = widths[-1]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], name: str) -> Self:
        """The network of a state dict, of the size its parameters have."""
        biases = {part: [len(v) for k, v in state.items() if k.startswith(part) and k.endswith("bias")]
                  for part in ("features", "embeddings")}  # fmt: skip
        if [len(sizes) for sizes in biases.values()] != [6, 3]:
            raise UserError(f"These are not weights of {name}: expected 6 convolutions and 3 linear layers.")
        network = cls(biases["features"], biases["embeddings"])
        fill(network, state, name)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Spectrograms (B, 96, 64) to (B, 128)."""
        x = self.features(x[:, None])  # (B, channels, time, band)
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))  # the channels last, as TensorFlow flattened them


class VGGish(FileEncoder):
    """Seconds of sound to 128-d embeddings, as they leave the network.

    LLP's recipe: of every second the first 0.96 s, and none of the principal components and 8-bit codes with which
    AudioSet's own embeddings were published.
    """

    name = "VGGish"
    stream: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE
    weights = Weights(
        "vggish-10086976.pth",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "10086976",
        "Apache-2.0",
        288_570_000,
    )
    architecture = VGGishNetwork

    def tokens(self, num_segments: int) -> int:
        """N: one a segment."""
        return num_segments

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """(B, T, 128)."""
        with self._compute.running():
            spectra = log_mel(sound_of(clips, RATE).view(-1, RATE))
            return per_clip([self.network(part) for part in self._compute.batches(spectra, BATCH)], clips)
