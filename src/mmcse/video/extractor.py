"""The encoders of a feature set, from a video to the features of its windows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmcse.data.layouts import LLP, VALOR, Layout, Stream
from mmcse.errors import UserError
from mmcse.video.decode import Clip, clips
from mmcse.video.encoders import Encoder
from mmcse.video.encoders.base import fingerprint
from mmcse.video.encoders.clap import CLAP
from mmcse.video.encoders.clip import CLIP
from mmcse.video.encoders.r2plus1d import R2Plus1D
from mmcse.video.encoders.resnet import ResNet152
from mmcse.video.encoders.vggish import VGGish
from mmcse.vocabulary import near_miss

REPORT = "extract.json"
"""What was extracted, how, and what failed; beside the folders of the layout."""
SIZE = 480
"""Pixels: frames whose shorter side is longer are scaled down to it, to bound the memory of a window."""


class FeatureSet(NamedTuple):
    """A layout, and the encoders whose features are in it."""

    layout: Layout
    audio: Any
    visual: Any
    motion: Any = R2Plus1D


FEATURE_SETS = {"clip_clap": FeatureSet(VALOR, CLAP, CLIP), "vggish_resnet": FeatureSet(LLP, VGGish, ResNet152)}


@dataclass(frozen=True)
class WindowFeatures:
    """Features of one window of a video, as a layout stores them."""

    start: float
    """Where in the video the window begins, in seconds."""
    duration: float
    """Seconds of real material in it."""
    audio: np.ndarray
    """(N, C) float32; N as in the layout for windows of 10 seconds, otherwise T."""
    visual: np.ndarray
    """(N, C) float32."""
    motion: np.ndarray
    """(T, C) float32."""


class FeatureExtractor:
    """The three encoders of a feature set.

    Args:
        features: "clip_clap" (layout valor) or "vggish_resnet" (layout llp).
        weights: folder with the weights, by their published names; default: the caches of the hubs they come from,
            into which they are downloaded.
        device: "auto" (a GPU where there is one), or a name PyTorch knows.
        dtype: "float32" or "bfloat16", in which the networks compute.
        offline: never download. Default: what HF_HUB_OFFLINE says.
        window: T, seconds of a window; a whole number.
        stride: seconds between the starts of windows (default: the window).
        batch_size: windows that are encoded together.

    Attributes:
        audio: the encoder of sound; so `visual` and `motion`, those of pictures.
        layout: how the features lie on disk.

    Raises:
        MissingFileError: weights are missing and cannot be downloaded.
        UserError: an option cannot be used, or a library or the memory for it is missing.
    """

    report_name = REPORT

    def __init__(
        self,
        features: str,
        *,
        weights: Path | str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        offline: bool | None = None,
        window: float = 10.0,
        stride: float | None = None,
        batch_size: int = 4,
    ) -> None:
        if features not in FEATURE_SETS:
            known = ", ".join(FEATURE_SETS)
            raise UserError(
                f"Unknown features {features!r}.{near_miss(features, FEATURE_SETS)} Expected one of {known}."
            )
        if batch_size < 1:
            raise UserError(f"Windows are encoded at least one at a time, not {batch_size}.")
        chosen = FEATURE_SETS[features]
        self.features, self.layout = features, chosen.layout
        self.window, self.stride, self.batch_size, self.dtype = window, stride, batch_size, dtype
        weights = None if weights is None else Path(weights)
        options = {"device": device, "dtype": dtype, "offline": offline}
        self.audio: Any = chosen.audio.load(weights, **options)
        self.visual: Any = chosen.visual.load(weights, **options)
        self.motion: Any = chosen.motion.load(weights, **options)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams of the layout: audio, visual, motion."""
        return self.layout.features

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The three encoders, in the order of `streams`."""
        return self.audio, self.visual, self.motion

    def clips(self, path: Path | str) -> Iterator[Clip]:
        """The windows of a video as the encoders take them (see `mmcse.video.clips`)."""
        rates = [encoder.sample_rate for encoder in self.encoders if encoder.sample_rate]
        return clips(path, window=self.window, stride=self.stride, sample_rates=rates, size=SIZE)

    def encode(self, windows: Sequence[Clip]) -> list[WindowFeatures]:
        """The features of windows, all in one batch.

        Raises:
            UserError: features are not finite, or the memory does not suffice.
        """
        streams = [encoder.encode(windows) for encoder in self.encoders]
        for encoder, features in zip(self.encoders, streams, strict=True):
            if not np.isfinite(features).all():
                raise UserError(
                    f"Features of {encoder.name} are not finite: its weights are damaged, or {self.dtype} does not "
                    "suffice for them."
                )
        return [
            WindowFeatures(clip.start, clip.duration, *features)
            for clip, *features in zip(windows, *streams, strict=True)
        ]

    def extract(self, path: Path | str) -> list[WindowFeatures]:
        """The features of a video, window by window.

        Raises:
            MissingFileError: there is no such file.
            VideoError: it cannot be decoded.
        """
        windows, features = self.clips(path), []
        while batch := list(islice(windows, self.batch_size)):
            features += self.encode(batch)
        return features

    @property
    def settings(self) -> dict[str, Any]:
        """What the features depend on besides the videos."""
        return {
            "features": self.features,
            "layout": self.layout.name,
            "window": self.window,
            "stride": self.stride or self.window,
            "dtype": self.dtype,
            "encoders": {
                encoder.stream: {"name": encoder.name, "weights": fingerprint(encoder.network)}
                for encoder in self.encoders
            },
        }
