"""F-scores of audio-visual video parsing (evaluation protocol of LLP: Tian et al., ECCV 2020).

Everything is derived from one integer array of counts (N, 2, 3, 3, K): for each video, at segment and event
level, for audio (A), visual (V) and audio-visual (AV) events, the true positives, false positives and false
negatives of each class.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmcse.errors import UserError
from mmcse.evaluation.events import BoolArray, IntArray, match_events

FloatArray = NDArray[np.float64]
Decisions = np.ndarray | Tensor
"""Boolean, or numbers that are all 0 or 1."""

LEVELS = ("segment", "event")
STREAMS = ("A", "V", "AV")
SCORES = (*STREAMS, "Type", "Event")
SCORE_KEYS = tuple(f"{level}/{score}" for level in LEVELS for score in SCORES)
"""Order of the ten scores."""


def parsing_scores(
    pred_audio: Decisions, pred_visual: Decisions, true_audio: Decisions, true_visual: Decisions
) -> dict[str, float]:
    """Score the parsing of a set of videos.

    Args:
        pred_audio: (N, T, K) decisions: the event is heard in the segment.
        pred_visual: (N, T, K) decisions: the event is seen in the segment.
        true_audio: (N, T, K) annotated audible events.
        true_visual: (N, T, K) annotated visible events.

    Returns:
        Percentages under `segment/A`, `segment/V`, `segment/AV`, `segment/Type`, `segment/Event`, the same
        five under `event/`, and `Avg`, the mean of the ten. They do not depend on the order of the videos.

    Raises:
        UserError: no video is given, shapes differ, or a value is neither 0 nor 1.
    """
    return mean_scores(per_video_scores(parsing_counts(pred_audio, pred_visual, true_audio, true_visual)))


def parsing_counts(
    pred_audio: Decisions, pred_visual: Decisions, true_audio: Decisions, true_visual: Decisions
) -> IntArray:
    """Count the true positives, false positives and false negatives of each video.

    Args:
        pred_audio: (N, T, K) as in `parsing_scores`, like the other three.
        pred_visual: (N, T, K).
        true_audio: (N, T, K).
        true_visual: (N, T, K).

    Returns:
        (N, 2, 3, 3, K) counts: level, stream (A, V, AV), (TP, FP, FN), class.

    Raises:
        UserError: as `parsing_scores`, but for an empty set.
    """
    pred_audio, pred_visual, true_audio, true_visual = _same_shape(
        pred_audio=pred_audio, pred_visual=pred_visual, true_audio=true_audio, true_visual=true_visual
    )
    streams = (
        (pred_audio, true_audio),
        (pred_visual, true_visual),
        (pred_audio & pred_visual, true_audio & true_visual),
    )
    levels = [np.stack([count(*stream) for stream in streams], axis=1) for count in (_segments, _events)]
    return np.stack(levels, axis=1)


def per_video_scores(counts: IntArray) -> FloatArray:
    """Reduce counts over classes to the scores of each video.

    Classes that are neither predicted nor present are left out of the mean; a video with none left scores
    100. Type is the mean of A, V and AV; Event adds the counts of audio and visual events before the F-score.

    Args:
        counts: (N, 2, 3, 3, K) from `parsing_counts`.

    Returns:
        (N, 10) percentages in the order of `SCORE_KEYS`.
    """
    audio_plus_visual = counts[:, :, :2].sum(axis=2, keepdims=True)
    f = f_score(np.concatenate((counts, audio_plus_visual), axis=2))  # (N, 2, 4, K)
    exists = ~np.isnan(f)
    found = exists.sum(axis=-1)
    mean = np.where(found > 0, np.where(exists, f, 0.0).sum(axis=-1) / np.maximum(found, 1), 1.0)
    a, v, av, event = np.moveaxis(100 * mean, -1, 0)
    return np.stack((a, v, av, (a + v + av) / 3, event), axis=-1).reshape(len(counts), len(SCORE_KEYS))


def mean_scores(per_video: FloatArray) -> dict[str, float]:
    """Average the scores of videos.

    Args:
        per_video: (N, 10) from `per_video_scores`.

    Returns:
        The eleven percentages of `parsing_scores`.

    Raises:
        UserError: N is zero.
    """
    N = len(per_video)
    if N == 0:
        raise UserError("There is no video to score. Check that the split and the predictions are not empty.")
    # fsum rounds once, so neither the order of the videos nor the split into batches can show in the result.
    means = [math.fsum(column) / N for column in per_video.T.tolist()]
    return {**dict(zip(SCORE_KEYS, means, strict=True)), "Avg": math.fsum(means) / len(means)}


def per_class_scores(
    pred_audio: Decisions, pred_visual: Decisions, true_audio: Decisions, true_visual: Decisions
) -> dict[str, dict[str, np.ndarray]]:
    """Score each class over all videos together.

    This is not part of the protocol, which averages over videos: here the counts of all videos are added first.

    Args:
        pred_audio: (N, T, K) as in `parsing_scores`, like the other three.
        pred_visual: (N, T, K).
        true_audio: (N, T, K).
        true_visual: (N, T, K).

    Returns:
        For `segment/A`, `segment/V`, `segment/AV`, `event/A`, `event/V` and `event/AV`: `TP`, `FP`, `FN`, integers
        (K,), and `F`, percentages (K,), nan for a class that is neither predicted nor present.

    Raises:
        UserError: shapes differ, or a value is neither 0 nor 1.
    """
    return class_table(parsing_counts(pred_audio, pred_visual, true_audio, true_visual).sum(axis=0))


def class_table(counts: IntArray) -> dict[str, dict[str, np.ndarray]]:
    """Lay out counts that are summed over videos, (2, 3, 3, K), as `per_class_scores` returns them."""
    return {
        f"{level}/{stream}": {
            **dict(zip(("TP", "FP", "FN"), counts[i, j], strict=True)),
            "F": 100 * f_score(counts[i, j]),
        }
        for i, level in enumerate(LEVELS)
        for j, stream in enumerate(STREAMS)
    }


def video_level_f1(pred: Decisions, weak: Decisions) -> dict[str, float]:
    """Score which events a video holds, in whatever segment and modality, against the weak labels.

    The paper (section 6.2) compares methods by such an F1 (88 % for MM-CSE) but does not say which average it is;
    both usual ones are given.

    Args:
        pred: (N, K) decisions.
        weak: (N, K) weak labels.

    Returns:
        Percentages: `video/F1`, over all cells of video and class together (micro), and `video/F1_macro`, the mean
        of the F1 of each class that is predicted or present.

    Raises:
        UserError: shapes differ, or a value is neither 0 nor 1.
    """
    return video_scores(video_counts(pred, weak))


def video_counts(pred: Decisions, weak: Decisions) -> IntArray:
    """Count true positives, false positives and false negatives of each class over videos, (3, K).

    Args:
        pred: (N, K) decisions.
        weak: (N, K) weak labels.

    Raises:
        UserError: shapes differ, or a value is neither 0 nor 1.
    """
    pred, weak = _same_shape(axes="(N, K)", pred=pred, weak=weak)
    return _confusion(pred, weak, axis=0)


def video_scores(counts: IntArray) -> dict[str, float]:
    """Video-level percentages, as `video_level_f1` returns them, from counts (3, K)."""
    by_class = f_score(counts)
    exists = ~np.isnan(by_class)
    if not exists.any():  # nothing to find and nothing found: right, as in the protocol
        return {"video/F1": 100.0, "video/F1_macro": 100.0}
    return {
        "video/F1": 100 * f_score(counts.sum(axis=-1, keepdims=True)).item(),
        "video/F1_macro": 100 * float(by_class[exists].mean()),
    }


def f_score(counts: IntArray) -> FloatArray:
    """F = 2 TP / (2 TP + FP + FN); nan where nothing is predicted and nothing present.

    Args:
        counts: (..., 3, K) true positives, false positives and false negatives.

    Returns:
        (..., K) scores between 0 and 1.
    """
    tp, fp, fn = np.moveaxis(counts, -2, 0)
    total = 2 * tp + fp + fn
    return np.where(total > 0, 2 * tp / np.maximum(total, 1), np.nan)


def _segments(pred: BoolArray, true: BoolArray) -> IntArray:
    """(N, 3, K) counts over the segments of each video."""
    return np.moveaxis(_confusion(pred, true, axis=1), 0, 1)


def _events(pred: BoolArray, true: BoolArray) -> IntArray:
    """(N, 3, K) counts over the events of each video: TP and FP over predicted, FN over true events."""
    m = match_events(pred, true)
    tp, fp, fn = m.pred.count(m.pred_hit), m.pred.count(~m.pred_hit), m.true.count(~m.true_hit)
    return np.stack((tp, fp, fn), axis=1)


def _confusion(pred: BoolArray, true: BoolArray, axis: int) -> IntArray:
    """True positives, false positives and false negatives along an axis, stacked in front."""
    return np.stack([x.sum(axis=axis) for x in (pred & true, pred & ~true, ~pred & true)])


def _same_shape(axes: str = "(N, T, K)", **arrays: Decisions) -> list[BoolArray]:
    """The arrays as numpy booleans, all of one shape with the given axes."""
    decisions = {name: _as_boolean(name, array) for name, array in arrays.items()}
    (first, reference), *others = decisions.items()
    if reference.ndim != axes.count(",") + 1:
        raise UserError(f"{first} has shape {reference.shape}; expected the axes {axes}.")
    for name, array in others:
        if array.shape != reference.shape:
            raise UserError(
                f"{first} has shape {reference.shape} but {name} has shape {array.shape}; expected the same {axes}."
            )
    return list(decisions.values())


def _as_boolean(name: str, array: Decisions) -> BoolArray:
    """The decisions as a numpy boolean array."""
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16
    values = np.asarray(array)
    if values.dtype == bool:
        return values
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        raise UserError(
            f"{name} holds {values[wrong][0]}; expected decisions, 0 or 1. "
            "Compare probabilities with a threshold first (see mmcse.evaluation.decode)."
        )
    return values.astype(bool)
