"""Which events are found: scores by the duration of an event."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmcse.errors import UserError
from mmcse.evaluation.events import BoolArray, match_events
from mmcse.evaluation.fscores import STREAMS, f_score


class DurationBin(NamedTuple):
    """Events of at least `shortest` and at most `longest` segments."""

    shortest: int
    longest: int

    def __str__(self) -> str:
        return f"{self.shortest}-{self.longest}" if self.shortest < self.longest else f"{self.shortest}"


def duration_bins(num_segments: int) -> tuple[DurationBin, ...]:
    """Four bins: up to a fifth of the video, up to half of it, less than all of it, and all of it.

    With T = 10 segments of a second: 1-2 s, 3-5 s, 6-9 s and the full 10 s. Bins that would be empty are left out.

    Args:
        num_segments: T.
    """
    ends = (num_segments // 5, num_segments // 2, num_segments - 1, num_segments)
    starts = (1, *(end + 1 for end in ends))
    return tuple(DurationBin(*ends) for ends in zip(starts, ends, strict=False) if ends[0] <= ends[1])


def duration_breakdown(
    pred_audio: BoolArray,
    pred_visual: BoolArray,
    true_audio: BoolArray,
    true_visual: BoolArray,
    bins: Sequence[DurationBin] | None = None,
) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Score events by duration, over all videos and classes together.

    A predicted event belongs to the bin of its own duration, a true event to that of its own; either counts as a hit
    as in the event-level protocol, whatever the duration of its partner. This is not part of the protocol, which
    averages over videos.

    Args:
        pred_audio: (N, T, K) boolean decisions: the event is heard in the segment.
        pred_visual: (N, T, K) boolean decisions: the event is seen in the segment.
        true_audio: (N, T, K) annotated audible events.
        true_visual: (N, T, K) annotated visible events.
        bins: which durations go together; None takes `duration_bins`.

    Returns:
        For `A`, `V` and `AV`, arrays with an entry for each bin: `true` and `found`, how many annotated events there
        are and how many of them are found; `predicted` and `right` likewise for predicted events; and the percentages
        `recall`, `precision` and `F`, nan where nothing is there to count.

    Raises:
        UserError: shapes differ.
    """
    if not pred_audio.shape == pred_visual.shape == true_audio.shape == true_visual.shape:
        raise UserError(
            f"Predictions have shapes {pred_audio.shape} and {pred_visual.shape}, the truth {true_audio.shape} and "
            f"{true_visual.shape}; expected the same (N, T, K)."
        )
    pred_audio, pred_visual, true_audio, true_visual = (
        np.asarray(x, dtype=bool) for x in (pred_audio, pred_visual, true_audio, true_visual)
    )
    bins = duration_bins(true_audio.shape[1]) if bins is None else bins
    streams = (
        (pred_audio, true_audio),
        (pred_visual, true_visual),
        (pred_audio & pred_visual, true_audio & true_visual),
    )
    return {name: _by_duration(*stream, bins) for name, stream in zip(STREAMS, streams, strict=True)}


def breakdown_table(breakdown: Mapping[str, Mapping[str, np.ndarray]], bins: Sequence[DurationBin]) -> str:
    """Lay out a breakdown as lines of text: the recall of each bin, and in brackets the number of annotated events.

    Args:
        breakdown: what `duration_breakdown` returned.
        bins: the bins it was made with.
    """
    lines = ["recall by duration of the event (number of annotated events)"]
    lines.append(f"  {'seconds':8}" + "".join(f"{bin_!s:>16}" for bin_ in bins))
    for stream, values in breakdown.items():
        cells = (f"{r:.1f} ({n})" for r, n in zip(values["recall"], values["true"], strict=True))
        lines.append(f"  {stream:8}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _by_duration(pred: BoolArray, true: BoolArray, bins: Sequence[DurationBin]) -> dict[str, np.ndarray]:
    matches = match_events(pred, true)

    def count(durations: np.ndarray) -> np.ndarray:
        return np.array([np.count_nonzero((durations >= b.shortest) & (durations <= b.longest)) for b in bins])

    counts = {
        "true": count(matches.true.duration),
        "found": count(matches.true.duration[matches.true_hit]),
        "predicted": count(matches.pred.duration),
        "right": count(matches.pred.duration[matches.pred_hit]),
    }
    hits, false_alarms, misses = (
        counts["right"],
        counts["predicted"] - counts["right"],
        counts["true"] - counts["found"],
    )
    return counts | {
        "recall": _percent(counts["found"], counts["true"]),
        "precision": _percent(counts["right"], counts["predicted"]),
        "F": 100 * f_score(np.stack((hits, false_alarms, misses))),
    }


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)
