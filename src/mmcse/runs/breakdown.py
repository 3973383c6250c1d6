"""What the averages hide: methods compared by class and by the duration of events, as a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmcse.data.manifest import Kind
from mmcse.markdown import markdown_table
from mmcse.runs.render import HEADLINES

STREAMS = {"A": "audible", "V": "visible", "AV": "audible and visible"}


class Evaluated(NamedTuple):
    """One run, evaluated: the experiment's name, its seed, and what `mmcse eval` found."""

    name: str
    seed: int
    result: Mapping[str, Any]


def breakdown_page(runs: Sequence[Evaluated], classes: Sequence[str], kind: Kind) -> str:
    """The page, in Markdown.

    Args:
        runs: all on the same split of the same data.
        classes: the vocabulary.
        kind: what the data are.
    """
    methods: dict[str, list[Evaluated]] = {}
    for run in sorted(runs, key=lambda run: (run.name, run.seed)):
        methods.setdefault(run.name, []).append(run)
    seeds = {name: len(of_name) for name, of_name in methods.items()}
    lines = ["# By class and by duration", "", "Written by `mmcse breakdown RUNS --out FILE`; do not edit.", ""]
    lines += [f"**{HEADLINES[kind]}.** Means over seeds: {', '.join(f'{n} ({s})' for n, s in seeds.items())}.", ""]
    lines += _by_duration(methods)
    lines += _by_class(methods, classes)
    return "\n".join(lines)


def _by_duration(methods: Mapping[str, Sequence[Evaluated]]) -> list[str]:
    """Recall of events by their duration: mean and standard deviation over seeds."""
    first = next(iter(methods.values()))[0].result
    lines = ["## Recall by duration of the event", ""]
    lines += ["A true event is found where a predicted one of its class overlaps it with an IoU of at least 1/2.", ""]
    for stream, words in STREAMS.items():
        counts = first["per_duration"][stream]["true"]
        head = [f"{bin_} s ({count})" for bin_, count in zip(first["duration_bins"], counts, strict=True)]
        rows = (
            [name, *(_spread(np.array([run.result["per_duration"][stream]["recall"][b] for run in runs]))
                     for b in range(len(head)))]
            for name, runs in methods.items()
        )  # fmt: skip
        lines += [f"### Events that are {words} (how many there are)", "", _table(["method", *head], rows), ""]
    return lines


def _by_class(methods: Mapping[str, Sequence[Evaluated]], classes: Sequence[str]) -> list[str]:
    """Segment-level F-score of each class, counted over all videos."""
    lines = ["## F-score of each class", ""]
    lines += ["Counted over all segments of all videos, which is not the protocol's average over videos.", ""]
    for stream in ("A", "V"):
        rows = (
            [label, *(_mean([run.result["per_class"][f"segment/{stream}"]["F"][k] for run in runs])
                      for runs in methods.values())]
            for k, label in enumerate(classes)
        )  # fmt: skip
        lines += [f"### {STREAMS[stream].capitalize()} segments", "", _table(["class", *methods], rows), ""]
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose underscores, those of names of classes, are no emphasis."""
    return markdown_table(head, rows).replace("_", r"\_")


def _spread(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return "-"
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def _mean(values: Sequence[float]) -> str:
    return "-" if np.isnan(values).any() else f"{np.mean(values):.1f}"
