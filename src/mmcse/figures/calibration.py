"""Whether probabilities mean what they say, and what other thresholds would give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.evaluation.fscores import f_score
from mmcse.figures.style import BLACK, BLUE, GREY, HEAT, ORANGE, log_scale, new_figure, styled
from mmcse.figures.timeline import TRACKS
from mmcse.vocabulary import display_name

BINS = 10
THRESHOLDS = np.linspace(0.05, 0.95, 19)


@dataclass(frozen=True)
class Reliability:
    """Probabilities in bins of equal width: their mean, how often they came true, and how many there are."""

    confidence: np.ndarray
    """(bins,) mean probability; nan for an empty bin."""
    frequency: np.ndarray
    """(bins,) share that came true; nan for an empty bin."""
    count: np.ndarray
    """(bins,)"""

    @property
    def calibration_error(self) -> float:
        """Mean distance of confidence and frequency, weighted by count (expected calibration error)."""
        filled = self.count > 0
        gaps = np.abs(self.confidence - self.frequency)[filled]
        return float((gaps * self.count[filled]).sum() / self.count.sum())


def reliability(probability: np.ndarray, outcome: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort probabilities into bins and compare them with what came true.

    Args:
        probability: of any shape, between 0 and 1; more than 1, as MGN's segment scores may be, counts as 1.
        outcome: of the same shape, what came true.
        bins: how many, of equal width.
    """
    probability, outcome = np.ravel(probability).astype(float).clip(0, 1), np.ravel(outcome).astype(float)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count, total, true = (np.bincount(place, weights, bins) for weights in (None, probability, outcome))
    with np.errstate(invalid="ignore"):
        return Reliability(total / count, true / count, count)


def scores_by_threshold(
    segment_prob: np.ndarray, true: np.ndarray, thresholds: np.ndarray, passed: np.ndarray | None = None
) -> np.ndarray:
    """F-score of each class over all segments, had the decision been made at other thresholds.

    Args:
        segment_prob: (N, T, 2, K) probabilities.
        true: (N, T, 2, K) annotation.
        thresholds: (n,) least probability of a decision.
        passed: (N, 2, K) which events the video-level gate lets through; None for all.

    Returns:
        (n, 2, K) percentages for audio and visual; nan where a class is neither present nor predicted.
    """
    allowed = np.ones_like(true) if passed is None else np.broadcast_to(passed[:, None], true.shape)
    scores = []
    for threshold in thresholds:
        decided = (segment_prob >= threshold) & allowed
        counts = [(a & b).sum(axis=(0, 1)) for a, b in ((decided, true), (decided, ~true), (~decided, true))]
        scores.append(100 * f_score(np.stack(counts, axis=-2)))
    return np.stack(scores)


@styled
def reliability_diagram(
    segment_prob: np.ndarray, true: np.ndarray, *, kind: Kind, title: str, bins: int = BINS
) -> Figure:
    """Draw how often segment-level probabilities came true: a calibrated parser lies on the diagonal.

    Args:
        segment_prob: (N, T, 2, K) probabilities, audio first.
        true: (N, T, 2, K) annotation.
        kind: what the data are.
        title: what is shown.
        bins: how many.

    Raises:
        UserError: shapes differ.
    """
    _check(segment_prob, true)
    figure = new_figure(6.4, 3.9, title=title, kind=kind)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    for track, (curve, histogram) in enumerate(axes.T):
        found = reliability(segment_prob[:, :, track], true[:, :, track], bins)
        curve.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
        colour, marker = ((BLUE, "o"), (ORANGE, "s"))[track]
        curve.plot(found.confidence, found.frequency, marker=marker, color=colour,
                   label=f"parser, error {found.calibration_error:.3f}")  # fmt: skip
        curve.set_title(TRACKS[track], loc="left", weight="bold")
        curve.set_aspect("equal")
        curve.grid()
        curve.legend(loc="upper left")
        edges = np.linspace(0, 1, bins + 1)
        histogram.bar(edges[:-1], found.count, 1 / bins, align="edge", color=colour, alpha=0.35, edgecolor=colour)
        log_scale(histogram)
        histogram.set_xlabel("segment-level probability")
    axes[0, 0].set_ylabel("share that is annotated")
    axes[1, 0].set_ylabel("segments\nand classes")
    return figure


@styled
def threshold_map(
    segment_prob: np.ndarray,
    true: np.ndarray,
    classes: Sequence[str],
    *,
    kind: Kind,
    title: str,
    threshold: float = 0.5,
    passed: np.ndarray | None = None,
) -> Figure:
    """Draw the F-score of every class against the threshold of its decisions, and which one would be best.

    The best threshold is that of the videos shown: one to be used must be chosen on validation.

    Args:
        segment_prob: (N, T, 2, K) probabilities, audio first.
        true: (N, T, 2, K) annotation.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown.
        threshold: the one that is in use; marked.
        passed: (N, 2, K) which events the video-level gate lets through; None for all.

    Raises:
        UserError: shapes differ.
    """
    _check(segment_prob, true, len(classes))
    K = len(classes)
    scores = scores_by_threshold(segment_prob, true, THRESHOLDS, passed)
    figure = new_figure(7.2, max(0.15 * K, 1.6) + 0.9, title=title, kind=kind)
    axes = figure.subplots(1, 2, sharey=True)
    step = THRESHOLDS[1] - THRESHOLDS[0]
    images = []
    for track, axis in enumerate(axes):
        of_track = scores[:, track].T  # (K, n)
        extent = (THRESHOLDS[0] - step / 2, THRESHOLDS[-1] + step / 2, K - 0.5, -0.5)
        images.append(axis.imshow(of_track, cmap=HEAT, vmin=0, vmax=100, extent=extent, aspect="auto"))
        found = np.nan_to_num(of_track).max(axis=1) > 0
        best = THRESHOLDS[np.nan_to_num(of_track).argmax(axis=1)]
        axis.plot(best[found], np.flatnonzero(found), "o", color="white", markeredgecolor=BLACK, label="best")
        axis.axvline(threshold, color="white", linestyle="--", linewidth=1.2, label="in use")
        axis.set_facecolor("#d9d9d9")
        axis.set_title(TRACKS[track], loc="left", weight="bold")
        axis.set_xlabel("threshold")
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(K), [display_name(name) for name in classes], size=6.5)
    figure.colorbar(images[0], ax=axes, label="F-score over all segments (%)", aspect=30)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, facecolor="#b0b0b0", frameon=True
    )
    return figure


def _check(segment_prob: np.ndarray, true: np.ndarray, num_classes: int | None = None) -> None:
    if segment_prob.shape != true.shape or true.ndim != 4 or num_classes not in (None, true.shape[-1]):
        raise UserError(
            f"Probabilities are {segment_prob.shape}, the truth {true.shape}; expected the same (N, T, 2, K)"
            + (f" with {num_classes} classes." if num_classes is not None else ".")
        )
