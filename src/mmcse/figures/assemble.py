"""From what a run or a table holds to its figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from mmcse.errors import UserError
from mmcse.evaluation.fscores import SCORE_KEYS, STREAMS, parsing_counts, per_class_scores, per_video_scores
from mmcse.figures.bars import ablation_bars, class_scores
from mmcse.figures.calibration import reliability_diagram, threshold_map
from mmcse.figures.curves import training_curves
from mmcse.figures.features import embedding
from mmcse.figures.maps import confusion_maps, cooccurrence_maps
from mmcse.figures.timeline import TRACKS, timeline
from mmcse.vocabulary import near_miss

if TYPE_CHECKING:  # figures of arrays need no network and no trainer
    from mmcse.runs.outputs import SplitOutputs
    from mmcse.runs.tables import ResultTable

EXAMPLES = 3
"""Videos that are drawn where none are named."""


def run_figures(
    outputs: "SplitOutputs",
    history: Mapping[str, np.ndarray] | None = None,
    *,
    best_epoch: int | None = None,
    videos: Sequence[str] = (),
    baseline: "SplitOutputs | None" = None,
) -> Iterator[tuple[str, Figure]]:
    """Every figure of a run that its outputs allow, one after the other, each with a name that can name a file.

    Args:
        outputs: what the run's checkpoint says of a split.
        history: of the training; without it, there are no curves.
        best_epoch: marked in the curves.
        videos: ids of those to draw as timelines; none takes `example_videos`.
        baseline: outputs of another checkpoint for the same videos, drawn beside the first in timelines.

    Raises:
        UserError: a video is not there.
    """
    rows = [_row(outputs, video) for video in videos] or example_videos(outputs)  # first: a name may be wrong
    predicted, true, classes, kind = outputs.predicted, outputs.true, outputs.classes, outputs.kind
    titles = {name: f"{words}: {outputs.title}" for name, words in _TITLES.items()}
    if history is not None:
        yield "curves", training_curves(history, kind=kind, title=titles["curves"], best_epoch=best_epoch)
    by_class = per_class_scores(*_streams(predicted), *_streams(true))
    f_scores = {stream: by_class[f"segment/{stream}"]["F"] for stream in STREAMS}
    counts = true.sum(axis=(0, 1, 2))
    yield "classes", class_scores(f_scores, classes, kind=kind, title=titles["classes"], counts=counts)
    yield "confusion", confusion_maps(predicted, true, classes, kind=kind, title=titles["confusion"])
    yield "reliability", reliability_diagram(outputs.segment_prob, true, kind=kind, title=titles["reliability"])
    yield "thresholds", threshold_map(
        outputs.segment_prob, true, classes, kind=kind, title=titles["thresholds"], threshold=outputs.threshold,
        passed=outputs.passed,
    )  # fmt: skip
    if (maps := outputs.cooccurrence) is not None:
        yield "cooccurrence", cooccurrence_maps(maps, classes, kind=kind, title=titles["cooccurrence"])
    for row in rows:
        yield f"video-{outputs.ids[row]}", video_timeline(outputs, row, baseline)
    if (features := outputs.features) is not None:
        for m, track in enumerate(TRACKS):
            background = None if features.background is None else features.background[:, m]
            yield f"features-{track.lower()}", embedding(
                features.holistic[:, m], features.true[:, m], features.event_features[:, m], background, classes,
                kind=kind, title=f"{track} features: {outputs.title}",
            )  # fmt: skip


def video_timeline(outputs: "SplitOutputs", row: int, baseline: "SplitOutputs | None" = None) -> Figure:
    """The timeline of one video, with a baseline's parsing where one is given.

    Args:
        outputs: of the method.
        row: position of the video in them.
        baseline: outputs of another checkpoint.

    Raises:
        UserError: the baseline does not have the video, or has other classes.
    """
    parsings = {outputs.method: outputs.predicted[row]}
    if baseline is not None:
        if baseline.classes != outputs.classes:
            raise UserError(f"{baseline.method} has other classes than {outputs.method}; they cannot be compared.")
        name = baseline.method if baseline.method != outputs.method else f"{baseline.method} (baseline)"
        parsings[name] = baseline.predicted[_row(baseline, outputs.ids[row])]
    return timeline(parsings, outputs.true[row], outputs.classes, kind=outputs.kind, title=f"Video {outputs.ids[row]}")


def example_videos(outputs: "SplitOutputs", n: int = EXAMPLES) -> list[int]:
    """Positions of n videos from the worst parsed to the best, at equal steps of rank, by segment-level Type.

    Videos with a single class tell little and are passed over, where there are enough others.
    """
    scores = per_video_scores(parsing_counts(*_streams(outputs.predicted), *_streams(outputs.true)))
    by_score = np.argsort(scores[:, SCORE_KEYS.index("segment/Type")], kind="stable")
    rich = by_score[(outputs.true.sum(axis=(1, 2)) > 0).sum(axis=1)[by_score] > 1]
    ranked = rich if len(rich) >= n else by_score
    return ranked[np.linspace(0, len(ranked) - 1, min(n, len(ranked))).round().astype(int)].tolist()


def table_figure(table: "ResultTable", column: str | None = None) -> Figure:
    """The bars of a table of results: an ablation, or methods against each other.

    Args:
        table: filled by results.
        column: of the table; None is the last one.

    Raises:
        UserError: the table has no such column, or no results at all.
    """
    column = table.paper.columns[-1] if column is None else column
    if column not in table.paper.columns:
        raise UserError(
            f"{table.paper.heading} has no column {column!r}.{near_miss(column, table.paper.columns)} It has: "
            f"{', '.join(table.paper.columns)}."
        )
    cells = {line.row.label: line.cells[column] for line in table.lines}
    if not any(cell.values for cell in cells.values()):
        raise UserError(f"No results fill {table.paper.heading} on {table.kind} data; run and collect some first.")
    reference = table.paper.reference
    return ablation_bars(
        {label: cell.values for label, cell in cells.items()},
        kind=table.kind,
        title=table.paper.heading,
        score=column,
        changes={label: cell.changes for label, cell in cells.items()} if reference else None,
        reference=table.paper.rows[reference].label if reference else "",
        paper={label: cell.paper for label, cell in cells.items() if cell.paper is not None},
    )


_TITLES = {
    "curves": "Training",
    "classes": "F-score of each class",
    "confusion": "Confusion",
    "reliability": "Calibration",
    "thresholds": "F-score by threshold",
    "cooccurrence": "Learnt co-occurrence",
}


def _streams(decisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, 2, K) to audio and visual, each (N, T, K)."""
    return decisions[:, :, 0], decisions[:, :, 1]


def _row(outputs: "SplitOutputs", video: str) -> int:
    if video not in outputs.ids:
        raise UserError(
            f"{outputs.title} has no video {video!r}.{near_miss(video, outputs.ids)} It has {len(outputs.ids)}, for "
            f"example {', '.join(outputs.ids[:3])}."
        )
    return outputs.ids.index(video)
