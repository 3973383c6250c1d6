"""Pseudo labels of segments from logits of prompts, how good they are, and which thresholds would be best.

The rule is VALOR's (Lai et al., NeurIPS 2023): an event is marked in a segment where the video's weak label names it
and the teacher's logit for its prompt exceeds the threshold of its class.
"""

from typing import Any, NamedTuple

import numpy as np

from mmcse.errors import UserError
from mmcse.evaluation.fscores import parsing_scores, per_class_scores


class ByModality(NamedTuple):
    """The same kind of array for what is heard and for what is seen."""

    audio: np.ndarray
    visual: np.ndarray


def text_logits(segments: np.ndarray, prompts: np.ndarray, scale: float) -> np.ndarray:
    """How well every segment fits every prompt: the scaled cosine between their embeddings.

    Args:
        segments: (..., T, D) embeddings of segments, of any length.
        prompts: (K, D) embeddings of prompts, of any length.
        scale: the teacher's learnt factor (CLIP: about 100).

    Returns:
        (..., T, K) float32 logits; -inf where a segment is all zeros: there is nothing to hear or see.
    """
    logits = scale * _unit(segments) @ _unit(prompts).T
    return np.where(segments.any(axis=-1, keepdims=True), logits, -np.inf).astype(np.float32)


def pseudo_labels(logits: np.ndarray, thresholds: np.ndarray, weak: np.ndarray) -> np.ndarray:
    """Mark the events of segments.

    Args:
        logits: (N, T, K) from `text_logits`.
        thresholds: (K,) values that a logit must exceed.
        weak: (N, K) weak labels of the videos.

    Returns:
        (N, T, K) boolean pseudo labels.

    Raises:
        UserError: the shapes do not fit together.
    """
    N, _, K = logits.shape
    if thresholds.shape != (K,) or weak.shape != (N, K):
        raise UserError(
            f"Logits of shape {logits.shape} need thresholds ({K},) and weak labels ({N}, {K}); found "
            f"{thresholds.shape} and {weak.shape}."
        )
    return (logits > thresholds) & weak.astype(bool)[:, None]


def best_thresholds(logits: np.ndarray, weak: np.ndarray, truth: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """Choose for every class the threshold whose pseudo labels have the highest F-score over all segments.

    Every way of cutting the sorted logits of a class in two is tried at once; the threshold lies half-way between the
    two logits around the best cut, and among equally good cuts the one that marks fewest segments is taken.

    Args:
        logits: (N, T, K) of videos whose segments are annotated, never those of the test split.
        weak: (N, K) their weak labels: other classes are never marked.
        truth: (N, T, K) annotated events.
        fallback: (K,) thresholds for the classes of which no annotated segment can be marked.

    Returns:
        (K,) float64 thresholds.
    """
    K = logits.shape[-1]
    possible = np.broadcast_to(weak.astype(bool)[:, None], logits.shape).reshape(-1, K)
    values = np.where(possible, logits.reshape(-1, K).astype(np.float64), -np.inf)
    order = np.argsort(-values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, axis=0)  # (segments, K), best fit first
    hits = np.take_along_axis(truth.reshape(-1, K).astype(bool), order, axis=0).cumsum(axis=0)
    marked = np.arange(1, len(values) + 1)[:, None]
    f = 2 * hits / (marked + truth.reshape(-1, K).sum(axis=0))
    below = np.vstack((values[1:], np.full((1, K), -np.inf)))
    f[values <= below] = -1  # no threshold cuts between equal logits; -inf is what the weak label rules out
    best = f.argmax(axis=0), np.arange(K)
    upper, lower = values[best], below[best]
    thresholds = np.where(np.isfinite(lower), (upper + np.where(np.isfinite(lower), lower, 0)) / 2, upper - 1)
    return np.where(f[best] > 0, thresholds, fallback)


def quality(labels: ByModality, truth: ByModality) -> dict[str, Any]:
    """How far pseudo labels agree with an annotation.

    Args:
        labels: (N, T, K) pseudo labels.
        truth: (N, T, K) annotated events.

    Returns:
        `scores`, the eleven percentages of `parsing_scores`, and for `audio` and `visual` the percentages `precision`,
        `recall` and `F` of each class over all segments, (K,); nan where there is nothing to divide by.
    """
    arrays = (*labels, *truth)
    by_class = per_class_scores(*arrays)
    return {
        "scores": parsing_scores(*arrays),
        "audio": _percentages(by_class["segment/A"]),
        "visual": _percentages(by_class["segment/V"]),
    }


def _percentages(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tp, fp, fn = (counts[name] for name in ("TP", "FP", "FN"))
    with np.errstate(invalid="ignore"):
        return {"precision": 100 * tp / (tp + fp), "recall": 100 * tp / (tp + fn), "F": counts["F"]}


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors in float64 at length one; those of length zero as they are."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
