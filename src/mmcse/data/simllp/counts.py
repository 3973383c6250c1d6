"""The label statistics that SimLLP reproduces, as counts.

They come with the package in `statistics.json`: "counted" holds the fields of `LabelCounts`, as counted from LLP's
annotations by `mmcse.data.simllp.statistics`; "assumed" what cannot be counted, which classes are easily confused.

The events of a video come in the order of decreasing class index, so that Speech, first in LLP's list and present in
half of its videos, comes last and fills what the others leave. An event is described given those before it:

    kind      0 audible only, 1 visible only, 2 both
    company   0 the video's only event, 1 the first of several, 2 after others not visible, 3 after others, some visible
    role      0 the event has this modality only, 1 it has both
    coverage  of a video or segment in one modality: 0 the only event, 1 the first of several, 2 the earlier ones leave
              a gap (somewhere), 3 they cover it (everywhere)
    state     of the event's own timeline before a segment: 0 not begun, 1 on, 2 ended, 3 there is none (first segment)

An event "fills" if it lasts the whole video; the chains are counted over events that do not.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """Counts over an annotated data set; last axes of length 2 are (how often it was so, could have been)."""

    num_segments: int
    """T of the annotations."""
    train_label_sets: Sequence[tuple[Sequence[int], int]]
    """Every distinct weak label of train as class indices, with its number of videos; the most frequent first."""
    dense_videos: int
    """Videos with segment-level truth (val and test)."""
    dense_labels: np.ndarray
    """(K,) how many of these carry each class in their weak label."""
    modality: np.ndarray
    """(K, company 4, kind 3) events of these videos."""
    audio_fill: np.ndarray
    """(K, role 2, coverage 4, 2) audible events that fill the video."""
    visual_fill: np.ndarray
    """(K, role 2, coverage 4, 2) visible events that fill the video; of those of both modalities only the ones whose
    timelines differ and whose audible one does not fill."""
    same: np.ndarray
    """(K, 2, 2) events of both modalities with equal timelines, by whether the audible one fills (axis 1)."""
    audio_chain: np.ndarray
    """(K, coverage 4, state 4, 2) segments in which an audible event is on."""
    visual_chain: np.ndarray
    """(3, coverage 4, state 4, 2) segments in which a visible event is on, by whether the event is in that segment
    silent, audible, or of the visual modality only (axis 0); all classes together, for they are few."""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.dense_labels)

    @property
    def train_videos(self) -> int:
        """Number of videos of train."""
        return sum(count for _, count in self.train_label_sets)

    @property
    def train_labels(self) -> np.ndarray:
        """(K,) how many videos of train carry each class in their weak label."""
        total = np.zeros(self.num_classes, dtype=int)
        for members, count in self.train_label_sets:
            total[list(members)] += count
        return total

    def to_json(self) -> dict[str, Any]:
        """The counts as lists and numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, counted: dict[str, Any]) -> Self:
        """The counts out of what `to_json` gave."""
        values = dict(counted)
        for name in counted.keys() - {"num_segments", "train_label_sets", "dense_videos"}:
            values[name] = np.array(counted[name], dtype=int)
        return cls(**values)


def shipped_counts() -> LabelCounts:
    """The counts over LLP that come with the package."""
    return LabelCounts.from_json(shipped_json()["counted"])


def confusable_groups() -> list[list[int]]:
    """Partition of LLP's classes (indices) into groups that look and sound alike."""
    return shipped_json()["assumed"]["confusable_groups"]


def shipped_json() -> dict[str, Any]:
    """The content of `statistics.json`."""
    return json.loads(files("mmcse.data.simllp").joinpath("statistics.json").read_text())


def some(x: np.ndarray, axis: int) -> np.ndarray:
    """Whether anything along an axis is true."""
    return np.logical_or.reduce(x, axis=axis)


def every(x: np.ndarray, axis: int) -> np.ndarray:
    """Whether everything along an axis is true."""
    return np.logical_and.reduce(x, axis=axis)


def company(events: np.ndarray, after_others: np.ndarray, after_visible: np.ndarray) -> np.ndarray:
    """(N,) company, 0 to 3 as in the head of this module, of the next event of each video.

    Args:
        events: (N,) number of events of the whole video.
        after_others: (N,) booleans, there are earlier events.
        after_visible: (N,) booleans, some of these are visible.
    """
    return np.where(after_others, 2 + after_visible, np.minimum(events - 1, 1))


def coverage(events: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """(N,) coverage of videos, 0 to 3 as in the head of this module.

    Args:
        events: (N,) number of events of the modality in the whole video.
        earlier: (N, T) booleans, an earlier event is on.
    """
    return np.where(some(earlier, axis=1), 2 + every(earlier, axis=1), np.minimum(events - 1, 1))


def segment_coverage(events: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """(N, T) coverage of segments; arguments as for `coverage`."""
    first = np.minimum(events - 1, 1)[:, None]
    return np.where(some(earlier, axis=1)[:, None], 2 + earlier, first)


def states_before(timeline: np.ndarray) -> np.ndarray:
    """(N, T) state before each segment, 0 to 3 as in the head of this module, from (N, T) timelines."""
    before = timeline[:, :-1]
    state = np.where(before, 1, np.where(np.logical_or.accumulate(before, axis=1), 2, 0))
    return np.concatenate([np.full((len(timeline), 1), 3), state], axis=1)
