"""Scores of several rows, as an ablation has them; and scores of every class."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.evaluation.fscores import STREAMS
from mmcse.figures.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    MARKERS,
    ORANGE,
    VERMILLION,
    new_figure,
    styled,
)
from mmcse.runs.statistics import CONFIDENCE, summarise
from mmcse.vocabulary import display_name

_ROW = 0.3
"""Inches of a bar with its share of the space between bars."""


@styled
def ablation_bars(
    values: Mapping[str, Sequence[float]],
    *,
    kind: Kind,
    title: str,
    score: str = "Avg",
    changes: Mapping[str, Sequence[float]] | None = None,
    reference: str = "",
    paper: Mapping[str, float] | None = None,
) -> Figure:
    """Draw a bar for every row: its mean, the 95 % interval of the mean, and every single value.

    Args:
        values: independent scores in percent, of seeds or of simulated worlds, by row; a row may have none.
        kind: what the data are.
        title: what is shown.
        score: which score it is.
        changes: paired differences from the reference row, by row; they get a panel of their own, on their own scale.
        reference: name of that row.
        paper: what the paper prints, by row; only beside real data.

    Raises:
        UserError: there is no row, or the paper's numbers are to stand beside data that are not real.
    """
    if not values:
        raise UserError("There is no row to draw. Collect the results of some runs first (mmcse collect).")
    if paper and kind != "real":
        raise UserError(f"The paper's numbers do not stand beside {kind} data.")
    panels = 2 if changes else 1
    figure = new_figure(7.2, _ROW * len(values) + 0.75, title=title, kind=kind)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    _bars(axes[0], list(values.values()), BLUE)
    axes[0].set_yticks(range(len(values)), list(values))
    axes[0].set_ylim(len(values) - 0.5, -0.5)
    axes[0].set_xlabel(f"{score} (%)")
    axes[0].set_xlim(0, 100)
    for row, name in enumerate(values):
        if paper and name in paper:
            axes[0].plot(paper[name], row, marker="D", color=VERMILLION, linestyle="", label="paper")
    if changes:
        _bars(axes[1], [changes.get(name, ()) for name in values], ORANGE)
        axes[1].axvline(0, color=BLACK, linewidth=0.8)
        axes[1].set_xlabel(f"{score}, difference from {reference or 'the reference'} (points)")
    for axis in axes:
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
    handles, labels = axes[0].get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))  # each once
    figure.legend(list(entries.values()), list(entries), loc="outside lower right", ncols=len(entries))
    return figure


def _bars(axis: Axes, rows: Sequence[Sequence[float]], colour: str) -> None:
    for row, values in enumerate(rows):
        if not len(values):
            continue
        summary = summarise(values)
        axis.barh(row, summary.mean, height=0.62, color=colour, alpha=0.35, edgecolor=colour)
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
        axis.plot(values, row + np.array(spread), "o", color="white", markeredgecolor=BLACK, markeredgewidth=0.7,
                  label="single run or world")  # fmt: skip
        if summary.low is not None and summary.high is not None:
            axis.errorbar(summary.mean, row, xerr=(summary.high - summary.low) / 2, color=BLACK, capsize=3,
                          linewidth=1.2, label=f"{100 * CONFIDENCE:.0f} % interval of the mean")  # fmt: skip


@styled
def class_scores(
    scores: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    kind: Kind,
    title: str,
    counts: np.ndarray | None = None,
) -> Figure:
    """Draw the F-scores of every class, the best class on top.

    Args:
        scores: percentages (K,) by series, for example "A", "V" and "AV" of `per_class_scores`; nan where a class is
            neither predicted nor present.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown.
        counts: (K,) annotated segments of each class; written beside the names.

    Raises:
        UserError: there is no series, or one is not (K,).
    """
    K = len(classes)
    if not scores or any(np.shape(of_series) != (K,) for of_series in scores.values()):
        raise UserError(f"Expected scores of shape ({K},); found { {n: np.shape(s) for n, s in scores.items()} }.")
    table = np.stack([np.asarray(of_series, dtype=float) for of_series in scores.values()])
    known = (~np.isnan(table)).sum(axis=0)
    order = np.argsort(-np.where(known > 0, np.nansum(table, axis=0) / np.maximum(known, 1), -1), kind="stable")
    figure = new_figure(6.2, 0.17 * K + 1.0, title=title, kind=kind)
    axis = figure.subplots()
    places = np.arange(K)
    for index, (name, of_series) in enumerate(zip(scores, table[:, order], strict=True)):
        axis.plot(of_series, places, MARKERS[index % len(MARKERS)], color=COLOURS[index % len(COLOURS)],
                  markersize=5, label=SERIES.get(name, name))  # fmt: skip
    names = [display_name(name) for name in classes]
    axis.set_yticks(places, [names[k] if counts is None else f"{names[k]} ({counts[k]})" for k in order])
    for place in places[known[order] == 0]:
        axis.text(1, place, "neither present nor predicted", va="center", color=GREY, size=6)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(K - 0.5, -0.5)
    axis.set_xlim(-2, 102)
    axis.set_xlabel("F-score over all segments (%)" + ("" if counts is None else "; in brackets: annotated segments"))
    axis.grid()
    figure.legend(loc="outside lower right", ncols=len(scores))
    return figure


SERIES: Mapping[str, str] = dict(zip(STREAMS, ("audible", "visible", "audible and visible"), strict=True))
"""What the streams of the protocol are called in a legend."""
