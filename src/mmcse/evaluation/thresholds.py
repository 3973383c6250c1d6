"""Thresholds chosen for each class on validation videos (CMPAE, CVPR 2023)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmcse.evaluation.fscores import Decisions, mean_scores, parsing_counts, per_video_scores

CANDIDATES = tuple(round(0.25 + 0.05 * step, 2) for step in range(10))
"""The thresholds that CMPAE tries: 0.25, 0.30, ... 0.70."""


def search_visual_thresholds(
    visible: np.ndarray,
    visual_prob: np.ndarray,
    true_visual: Decisions,
    candidates: Sequence[float] = CANDIDATES,
    default: float = 0.45,
) -> NDArray[np.float64]:
    """Choose for each class the video-level threshold of the visual gate that finds visible events best.

    Each class is searched alone while the others are held at the default, for the highest event-level visual F-score;
    of equal thresholds the largest wins, so a class that no threshold matters for gets the largest of all.

    Args:
        visible: (N, T, K) booleans: the segment's own probability reaches its threshold.
        visual_prob: (N, K) probabilities of the visual modality, which must reach the threshold that is searched.
        true_visual: (N, T, K) annotated visible events.
        candidates: the thresholds to try.
        default: the threshold of the classes that are not being searched.

    Returns:
        (K,) thresholds.

    Raises:
        UserError: shapes differ, or there is no video.
    """

    def counts_at(threshold: float) -> np.ndarray:
        pred = visible & (visual_prob >= threshold)[:, None]
        return parsing_counts(pred, pred, true_visual, true_visual)

    ascending = np.sort(np.asarray(candidates, dtype=np.float64))
    others, tried = counts_at(default), [counts_at(threshold) for threshold in ascending]
    chosen = np.empty(visible.shape[-1])
    for k in range(len(chosen)):
        scores = []
        for counts in tried:
            changed = others.copy()
            changed[..., k] = counts[..., k]
            scores.append(mean_scores(per_video_scores(changed))["event/V"])
        chosen[k] = max(zip(scores, ascending, strict=True))[1]
    return chosen
