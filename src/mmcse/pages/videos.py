"""What runs say about every video of a split, small enough to travel inside a page.

Arrays travel as compressed integers: a probability in thousandths, a score in hundredths of a point, decisions as
bits. The script that reads them is `templates/videos.js`.
"""

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmcse.evaluation.fscores import SCORE_KEYS, parsing_counts, per_video_scores
from mmcse.runs.outputs import SplitOutputs
from mmcse.vocabulary import display_name

PER_PROBABILITY, PER_POINT = 1000, 100
NOT_A_NUMBER = np.iinfo(np.uint16).max


def video_data(outputs: Mapping[str, SplitOutputs]) -> dict[str, Any]:
    """The videos of a split and what several runs say about them, as plain values for JSON.

    Args:
        outputs: by the name of the run; all of the same videos.

    Returns:
        `ids`, `classes`, `segments` (T), `score_keys`, `truth` and `weak` (bits of (N, T, 2, K) and (N, K)), and
        `runs`, each with its `name`, `segment` (N, T, 2, K) and `video` (N, 2, K) probabilities (the ones that gate
        audio and visual segments, or None), `predicted` bits (N, T, 2, K) and `scores` (N, 11), the last of which is
        their mean.

    Raises:
        ValueError: the runs are on different videos.
    """
    first = next(iter(outputs.values()))
    if not all(same_videos(first, other) for other in outputs.values()):
        raise ValueError("these outputs are on different videos")
    return {
        "ids": list(first.ids),
        "classes": [display_name(name) for name in first.classes],
        "segments": first.true.shape[1],
        "score_keys": [*SCORE_KEYS, "Avg"],
        "truth": _bits(first.true),
        "weak": _bits(first.weak),
        "runs": [_run(name, output) for name, output in outputs.items()],
    }


def same_videos(one: SplitOutputs, other: SplitOutputs) -> bool:
    """Whether two outputs are on the same videos, annotated in the same way."""
    return (one.ids, one.classes) == (other.ids, other.classes) and np.array_equal(one.true, other.true)


def decisions(output: SplitOutputs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What is predicted and what is true, of audio and visual segments each, (N, T, K), as scores take them."""
    predicted, true = output.predicted, output.true
    return predicted[:, :, 0], predicted[:, :, 1], true[:, :, 0], true[:, :, 1]


def _run(name: str, output: SplitOutputs) -> dict[str, Any]:
    return {
        "name": name,
        "threshold": output.threshold,
        "segment": _whole(output.segment_prob, PER_PROBABILITY),
        "video": _gating(output),
        "predicted": _bits(output.predicted),
        "scores": _whole(_scores(output), PER_POINT),
    }


def _gating(output: SplitOutputs) -> str | None:
    """The probabilities that decide whether an event may be audible and visible in a video at all, see `Gate`."""
    if output.gate == "none":
        return None
    levels = {"video": output.video_prob, "audio": output.audio_prob, "visual": output.visual_prob}
    return _whole(np.stack([levels[name] for name in output.gate.split("/")], axis=1), PER_PROBABILITY)


def _scores(output: SplitOutputs) -> np.ndarray:
    """(N, 11) percentages of each video."""
    scores = per_video_scores(parsing_counts(*decisions(output)))
    return np.concatenate((scores, scores.mean(axis=1, keepdims=True)), axis=1)


def _whole(values: np.ndarray, per_unit: int) -> str:
    """Numbers from 0 to 65.5 (655 for points) as 16-bit integers, least byte first."""
    limited = np.clip(np.round(values.astype(np.float64) * per_unit), 0, NOT_A_NUMBER - 1)
    return _packed(np.where(np.isnan(limited), NOT_A_NUMBER, limited).astype("<u2"))


def _bits(values: np.ndarray) -> str:
    return _packed(np.packbits(values.astype(bool), axis=None, bitorder="little"))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), level=9)).decode()
