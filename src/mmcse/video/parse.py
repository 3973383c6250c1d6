"""A video file to its events, with a trained network: what `mmcse parse` does.

A network parses windows of T seconds. A video that is longer is parsed in windows that overlap by half: what several
windows say of a segment, its own probabilities and the video-level ones that gate it, is averaged, and the averages
are decoded as those of a single window are. Events may so be longer than a window.
"""

import logging
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcse.data.manifest import FEATURES, Kind
from mmcse.errors import UserError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.evaluation.decode import decode, gate_thresholds
from mmcse.progress import progress_bar
from mmcse.video.container import declared_duration
from mmcse.video.events import NOTES, Parsing
from mmcse.video.extractor import FEATURE_SETS, FeatureExtractor, WindowFeatures

log = logging.getLogger(__name__)


class Probabilities(NamedTuple):
    """Probabilities of segments, and the video-level ones that gate them.

    Of W windows: (W, T, 2, K) and three times (W, K). Merged: (S, 2, K) and three times (S, K).
    """

    segment: Tensor
    video: Tensor
    audio: Tensor
    visual: Tensor


def merge_windows(starts: Sequence[int], windows: Probabilities, duration: float) -> Probabilities:
    """Average over windows what they say of each segment of a video.

    Args:
        starts: W first segments, one of each window; together the windows cover the video without a gap.
        windows: probabilities of W windows of T segments.
        duration: seconds of the video; segments beyond it are padding and left out.

    Returns:
        Probabilities of S segments, the last one perhaps shorter than a second. A segment's video-level probabilities
        are the mean of those of the windows it lies in.
    """
    W, T = windows.segment.shape[:2]
    position = torch.as_tensor(starts)[:, None] + torch.arange(T)  # (W, T)
    S = max(1, math.ceil(duration - 1e-3))
    times = torch.zeros(int(position.max()) + 1).index_add(0, position.flatten(), torch.ones(W * T))

    def mean(values: Tensor) -> Tensor:
        """(W, T, ...) to (S, ...)."""
        total = torch.zeros(len(times), *values.shape[2:]).index_add(0, position.flatten(), values.flatten(0, 1))
        return (total / times.view(-1, *[1] * (values.ndim - 2)))[:S]

    gates = (mean(of_window[:, None].expand(-1, T, -1)) for of_window in windows[1:])
    return Probabilities(mean(windows.segment), *gates)


class FileParser:
    """A checkpoint's network behind the encoders of the features that it was trained on.

    Args:
        checkpoint: of a run, or a folder that `mmcse import` wrote.
        features: a feature set, as `FeatureExtractor` names it (default: the one with the widths of the network).
        threshold: least probability of a decision (default: the checkpoint's).
        overlap: share of a window, from 0 to below 1, that the next window of a long video covers again.
        **options: of `FeatureExtractor`: weights, device, dtype, offline, batch_size. The network itself is small, and
            computes on the CPU.

    Raises:
        UserError: the checkpoint or the weights of an encoder cannot be used, or the network takes features that no
            encoder gives.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        features: str | None = None,
        threshold: float | None = None,
        overlap: float = 0.5,
        **options: Any,
    ) -> None:
        if not 0 <= overlap < 1:
            raise UserError(f"The overlap of windows is {overlap}; expected a share from 0 to below 1.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise UserError(f"The threshold is {threshold}; expected a probability from 0 to 1.")
        card, weights = read_checkpoint(checkpoint)
        self.classes = tuple(card["classes"])
        self.kind: Kind = card.get("data_kind", "real")
        self.network = rebuild(card, weights).eval()
        self.gate = card["evaluation"]["gate"]
        self.threshold = card["evaluation"]["threshold"] if threshold is None else threshold
        self.gate_threshold = gate_thresholds(self.threshold, card["evaluation"])
        asked = tuple(card["model"][f"{stream}_dim"] for stream in FEATURES)
        features = features or features_of(asked)
        T = card["model"]["num_segments"]
        self.stride = max(1, round(T * (1 - overlap)))
        self.extractor = FeatureExtractor(features, window=T, stride=self.stride, **options)
        given = tuple(encoder.dim for encoder in self.extractor.encoders)
        if given != asked:
            raise UserError(
                f"The network takes {_streams(asked)} numbers, and the encoders of {features} give {_streams(given)}. "
                "Use the features, and the weights of encoders, that it was trained with."
            )
        self.origin = {
            "network": type(self.network).__name__,
            "checkpoint": str(checkpoint),
            "features": features,
            "gate": self.gate,
            "threshold": self.threshold,
        }
        if self.kind in NOTES:
            log.warning("WARNING: the network of %s was %s.", checkpoint, NOTES[self.kind])

    def parse(self, video: Path, *, progress: bool = False) -> Parsing:
        """Parse one video. Where it lacks a track nothing is heard, or nothing is seen.

        Args:
            video: a file that FFmpeg can read.
            progress: show how far it is, on standard error.

        Raises:
            VideoError: it cannot be decoded.
        """
        clips = self.extractor.clips(video)
        starts, parts, tracks, duration = [], [], (True, True), 0.0
        with progress_bar(total=self._windows(video), description=video.name, unit="windows", enabled=progress) as bar:
            while batch := list(islice(clips, self.extractor.batch_size)):
                parts.append(self._run(self.extractor.encode(batch)))
                starts += [round(clip.start) for clip in batch]
                duration = batch[-1].start + batch[-1].duration
                tracks = batch[0].has_audio, batch[0].has_visual
                bar.update(len(batch))
        windows = Probabilities(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        merged = merge_windows(starts, windows, duration)
        decided = decode(
            merged.segment[:, None],  # every segment as a video of one segment
            *merged[1:],
            gate=self.gate,
            threshold=self.threshold,
            gate_threshold=self.gate_threshold,
        )
        present = torch.cat(decided, dim=1) & torch.tensor(tracks)[:, None]  # (S, 2, K)
        return Parsing(
            video=video,
            duration=float(duration),
            tracks=tracks,
            classes=self.classes,
            segment_prob=merged.segment.clamp(max=1).numpy(),
            present=present.numpy(),
            kind=self.kind,
            parser=self.origin,
        )

    def _windows(self, video: Path) -> int:
        """How many windows a video has, if it is as long as it says."""
        beyond = (declared_duration(video) or 0) - self.extractor.window
        return 1 + max(0, math.ceil(beyond / self.stride))

    def _run(self, windows: Sequence[WindowFeatures]) -> Probabilities:
        """Probabilities of some windows, on the CPU."""
        streams = (np.stack([getattr(window, stream) for window in windows]) for stream in FEATURES)
        with torch.inference_mode():
            out = self.network(*map(torch.from_numpy, streams), auxiliary=False)
        return Probabilities(out.segment_prob, out.video_prob, out.audio_prob, out.visual_prob)


def features_of(asked: tuple[int, ...]) -> str:
    """The feature set whose audio, visual and motion features have these widths.

    Raises:
        UserError: no encoder gives features of such widths.
    """
    known = {tuple(s.width for s in chosen.layout.features): name for name, chosen in FEATURE_SETS.items()}
    if asked not in known:
        offered = "; ".join(f"{name} gives {_streams(widths)}" for widths, name in known.items())
        raise UserError(
            f"This network takes {_streams(asked)} numbers, and no encoder is known to give them from a video: "
            f"{offered}. If yours do, say which they are with --features."
        )
    return known[asked]


def _streams(widths: tuple[int, ...]) -> str:
    return ", ".join(f"{width} ({stream})" for width, stream in zip(widths, FEATURES, strict=True))
