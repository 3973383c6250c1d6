"""Events as runs of consecutive segments, and how predicted events are matched to true ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Events:
    """Events of many videos as flat arrays, sorted by video, class and onset.

    Attributes:
        video: (E,) index of the video.
        label: (E,) index of the class.
        onset: (E,) first segment.
        offset: (E,) segment after the last one.
        shape: (N, T, K) of the decisions that the events were found in.
    """

    video: IntArray
    label: IntArray
    onset: IntArray
    offset: IntArray
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.video)

    @property
    def duration(self) -> IntArray:
        """(E,) number of segments."""
        return self.offset - self.onset

    @property
    def start(self) -> IntArray:
        """(E,) onset on the one line that all videos and classes form, strictly increasing."""
        _, T, K = self.shape
        return (self.video * K + self.label) * T + self.onset

    def count(self, where: BoolArray) -> IntArray:
        """(N, K) number of events of each video and class among those that `where` (E,) selects."""
        N, _, K = self.shape
        cell = self.video[where] * K + self.label[where]
        return np.bincount(cell, minlength=N * K).reshape(N, K)


def find_events(present: BoolArray) -> Events:
    """Find the runs of consecutive positive segments.

    Args:
        present: (N, T, K) boolean segment-level decisions.

    Returns:
        The runs as events.
    """
    N, T, K = present.shape
    padded = np.zeros((N, K, T + 2), dtype=bool)
    padded[:, :, 1:-1] = present.swapaxes(1, 2)
    # Changes come in the order of video, class, time, so a start and its end take turns.
    changes = np.flatnonzero(padded[:, :, 1:] != padded[:, :, :-1])
    cell, onset = np.divmod(changes[::2], T + 1)
    video, label = np.divmod(cell, K)
    return Events(video, label, onset, changes[1::2] % (T + 1), (N, T, K))


@dataclass(frozen=True)
class Matches:
    """Predicted and true events, and which of them have a partner.

    Attributes:
        pred: predicted events.
        true: true events.
        pred_hit: (number of predicted events,) the event overlaps enough with some true one.
        true_hit: (number of true events,) the event overlaps enough with some predicted one.
    """

    pred: Events
    true: Events
    pred_hit: BoolArray
    true_hit: BoolArray


def match_events(pred: BoolArray, true: BoolArray) -> Matches:
    """Match the predicted events to the true events of the same video and class with IoU >= 0.5.

    Only pairs that overlap are looked at. The overlap of two runs is itself a run of segments that are
    positive in both, and it lies in exactly one predicted and one true run: the last ones that start no later.

    Args:
        pred: (N, T, K) boolean predictions.
        true: (N, T, K) boolean truth.

    Returns:
        The events of both sides and their hits.
    """
    pred_events, true_events, overlap = find_events(pred), find_events(true), find_events(pred & true)
    p = np.searchsorted(pred_events.start, overlap.start, side="right") - 1
    t = np.searchsorted(true_events.start, overlap.start, side="right") - 1
    union = pred_events.duration[p] + true_events.duration[t] - overlap.duration
    hit = 2 * overlap.duration >= union  # in integers, so that an IoU of one half is exactly one half
    pred_hit = np.zeros(len(pred_events), dtype=bool)
    true_hit = np.zeros(len(true_events), dtype=bool)
    pred_hit[p[hit]] = True
    true_hit[t[hit]] = True
    return Matches(pred_events, true_events, pred_hit, true_hit)
