"""The parsing of one video as a timeline (paper, Figures 3 and 6)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.evaluation.events import BoolArray, find_events
from mmcse.figures.style import BLUE, GREEN, GREY, VERMILLION, new_figure, styled
from mmcse.vocabulary import display_name

TRACKS: tuple[str, ...] = ("Audio", "Visual")
_ROW, _GAP = 1.0, 0.7
"""Height of a row, and of the space between two classes, in units of the vertical axis."""
_INCHES = 0.17
"""Height of that unit on paper."""


class _Mark(NamedTuple):
    """How segments of one state are drawn: by colour, and by hatching, filling or outline for those who read grey."""

    label: str
    face: str
    edge: str
    hatch: str = ""
    linestyle: str = "-"

    @property
    def style(self) -> dict[str, Any]:
        return {"facecolor": self.face, "edgecolor": self.edge, "hatch": self.hatch, "linestyle": self.linestyle}


_TRUE = _Mark("annotated", "#4d4d4d", "#4d4d4d")
_PREDICTED = _Mark("predicted", BLUE, BLUE)
_CORRECT = _Mark("correct", GREEN, "#00614a")
_FALSE = _Mark("false", "#f6c9ad", VERMILLION, hatch="//////")
_MISSED = _Mark("missed", "white", GREY, linestyle="--")


@styled
def timeline(
    parsings: Mapping[str, np.ndarray],
    true: np.ndarray | None,
    classes: Sequence[str],
    *,
    kind: Kind,
    title: str,
    segment_seconds: float = 1.0,
) -> Figure:
    """Draw the events of a video on an audio and a visual track.

    Each event that is annotated or predicted has a row for the truth and one for every method, on which correct,
    missed and false segments are marked by filling, dashed outline and hatching.

    Args:
        parsings: decisions (T, 2, K), audio first, by the name of the method.
        true: (T, 2, K) annotation, or None where there is none: then predictions are drawn as they are.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown, for example the video's id.
        segment_seconds: duration of a segment.

    Raises:
        UserError: nothing to draw, or shapes differ.
    """
    rows = {name: np.asarray(decided, dtype=bool) for name, decided in parsings.items()}
    if true is not None:
        rows = {"truth": np.asarray(true, dtype=bool), **rows}
    shapes = {name: array.shape for name, array in rows.items()}
    expected = next(iter(shapes.values()), None)
    if expected is None or len(expected) != 3 or expected[1:] != (2, len(classes)) or len(set(shapes.values())) > 1:
        raise UserError(f"Expected decisions of shape (T, 2, {len(classes)}) from every method; found {shapes}.")

    shown = np.any(np.stack(list(rows.values())), axis=(0, 1))  # (2, K)
    group = len(rows) * _ROW + _GAP
    heights = [max(1, of_track.sum()) * group for of_track in shown]
    figure = new_figure(7.2, _INCHES * sum(heights) + 1.15, title=title, kind=kind)
    axes = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    for track, axis in enumerate(axes):
        of_track = {name: array[:, track] for name, array in rows.items()}
        _draw_track(axis, of_track, true is not None, np.flatnonzero(shown[track]), classes, segment_seconds)
        axis.set_title(TRACKS[track], loc="left", weight="bold")
        axis.set_xlim(0, expected[0] * segment_seconds)
    axes[-1].set_xlabel("time (s)")
    marks = (_PREDICTED,) if true is None else (_TRUE, _CORRECT, _MISSED, _FALSE)
    figure.legend(
        handles=[Patch(label=mark.label, **mark.style) for mark in marks], loc="outside lower right", ncols=len(marks)
    )
    return figure


def _draw_track(
    axis: Axes,
    rows: Mapping[str, BoolArray],
    annotated: bool,
    shown: Sequence[int] | np.ndarray,
    classes: Sequence[str],
    seconds: float,
) -> None:
    """One track: `rows` (T, K) by name, the truth first where it is known."""
    ticks, labels = [], []
    single = len(rows) == 1  # then it needs no name
    beside_names = 6 if single else 14 + 4.3 * max(map(len, rows))  # points; a letter is about 4.3 wide
    for place, k in enumerate(shown):
        top = place * (len(rows) * _ROW + _GAP)
        truth = next(iter(rows.values()))[:, k]
        for index, (name, decided) in enumerate(rows.items()):
            middle = top + (index + 0.5) * _ROW
            present = decided[:, k]
            states = {_TRUE if annotated else _PREDICTED: present}
            if annotated and index:
                states = {_CORRECT: present & truth, _MISSED: ~present & truth, _FALSE: present & ~truth}
            for mark, where in states.items():
                _draw_runs(axis, where, middle, mark, seconds)
            ticks.append(middle)
            labels.append("" if single else name)
        axis.annotate(
            display_name(classes[k]), (0, top + len(rows) * _ROW / 2), (-beside_names, 0),
            xycoords=axis.get_yaxis_transform(), textcoords="offset points", ha="right", va="center", weight="bold",
        )  # fmt: skip
        if place:
            axis.axhline(top - _GAP / 2, color="#dddddd", linewidth=0.6)
    axis.set_yticks(ticks, labels)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(max(1, len(shown)) * (len(rows) * _ROW + _GAP) - _GAP / 2, -_GAP / 2)
    axis.grid(axis="x")
    if not len(shown):
        axis.text(0.5, 0.5, "no event", transform=axis.transAxes, ha="center", va="center", color=GREY)


def _draw_runs(axis: Axes, where: BoolArray, middle: float, mark: _Mark, seconds: float) -> None:
    """A bar for every run of segments that `where` (T,) selects."""
    runs = find_events(where[None, :, None])
    spans = [(onset * seconds, length * seconds) for onset, length in zip(runs.onset, runs.duration, strict=True)]
    axis.broken_barh(spans, (middle - 0.38 * _ROW, 0.76 * _ROW), linewidth=0.9, **mark.style)
