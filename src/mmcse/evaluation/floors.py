"""Floors and ceilings: what predictions score that look at no feature.

They tell what a number means. Each is a function from labels to decisions; `reference_rows` scores them all.
"""

from collections.abc import Mapping

import numpy as np

from mmcse.evaluation.events import BoolArray
from mmcse.evaluation.fscores import parsing_scores

Decided = tuple[BoolArray, BoolArray]
"""Decisions (N, T, K) for audio and visual."""


def nothing(shape: tuple[int, int, int]) -> Decided:
    """No event anywhere.

    Args:
        shape: (N, T, K).
    """
    return np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)


def most_frequent_class(train_weak: np.ndarray, shape: tuple[int, int, int]) -> Decided:
    """The class that most training videos carry, heard in every segment and never seen (in LLP, Speech).

    Args:
        train_weak: (training videos, K) weak labels.
        shape: (N, T, K) of the decisions.
    """
    audio, visual = nothing(shape)
    audio[..., train_weak.sum(axis=0).argmax()] = True
    return audio, visual


def weak_label_everywhere(weak: np.ndarray, num_segments: int) -> Decided:
    """The video's own weak label in every segment of both modalities: what knowing it is worth without parsing.

    Args:
        weak: (N, K) weak labels.
        num_segments: T.
    """
    everywhere = np.repeat(weak[:, None].astype(bool), num_segments, axis=1)
    return everywhere, everywhere


def reference_rows(
    true_audio: np.ndarray,
    true_visual: np.ndarray,
    weak: np.ndarray,
    train_weak: np.ndarray,
    pseudo: tuple[np.ndarray, np.ndarray] | None = None,
) -> Mapping[str, dict[str, float]]:
    """Score every floor and ceiling that the labels allow.

    Args:
        true_audio: (N, T, K) annotated audible events.
        true_visual: (N, T, K) annotated visible events.
        weak: (N, K) weak labels of the same videos.
        train_weak: (training videos, K) weak labels.
        pseudo: pseudo labels of the same videos, (N, T, K) for audio and visual: what a perfect pupil of them scores.

    Returns:
        The scores of `parsing_scores` by the name of the row.

    Raises:
        UserError: shapes differ, or there is no video.
    """
    rows = {
        "nothing": nothing(true_audio.shape),
        "most frequent class": most_frequent_class(train_weak, true_audio.shape),
        "weak label everywhere": weak_label_everywhere(weak, true_audio.shape[1]),
    }
    if pseudo is not None:
        rows["pseudo labels"] = pseudo
    return {name: parsing_scores(*decided, true_audio, true_visual) for name, decided in rows.items()}
