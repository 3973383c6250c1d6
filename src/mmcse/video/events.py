"""The events of a video, and their forms: JSON, CSV, and a timeline in characters."""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mmcse import __version__
from mmcse.data.manifest import Kind
from mmcse.evaluation.events import find_events
from mmcse.files import atomic_write, write_json

FORMAT = 1
"""Of the JSON file, as in `events.schema.json`, which describes it."""

EventModality = Literal["audio", "visual", "both"]
VERBS: Mapping[EventModality, str] = {"audio": "heard", "visual": "seen", "both": "heard and seen"}
"""The modalities, and what people say."""

NOTES: Mapping[Kind, str] = {
    "simulated": "trained on SIMULATED features: these events mean nothing",
    "fixture": "trained on a FIXTURE, a few videos for tests: these events mean nothing",
}
"""What to say of a network, unless it was trained on real features."""

WIDTH = 60
"""Characters of a timeline, at most; each stands for a whole number of segments."""


class Event(NamedTuple):
    """A span of time in which an event is heard, or seen, or both at once."""

    label: str
    """A class of the vocabulary."""
    modality: EventModality
    """"audio": heard; "visual": seen; "both": heard and seen, which lies within an event of each."""
    onset: float
    """Where it begins, in seconds."""
    offset: float
    """Where it ends, in seconds."""
    confidence: float
    """Mean over its segments of their probability; of "both", of the smaller of the two."""


@dataclass(frozen=True)
class Parsing:
    """What a network says about a video. Shapes: S segments of one second, the last perhaps shorter; K classes."""

    video: Path
    duration: float
    """Seconds that were parsed."""
    tracks: tuple[bool, bool]
    """Whether the video has sound, and whether it has pictures."""
    classes: tuple[str, ...]
    """The vocabulary, K names in order."""
    segment_prob: np.ndarray
    """(S, 2, K) probability that an event is heard (index 0) or seen (index 1); MGN's scores are cut at one."""
    present: np.ndarray
    """(S, 2, K) boolean decisions."""
    kind: Kind
    """What the network was trained on: "real", "simulated" or "fixture"."""
    parser: dict[str, Any]
    """Network, checkpoint, features, gate and threshold."""

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """The runs of consecutive positive segments, by onset, class and modality."""
        tracks = np.concatenate((self.present, self.present.all(axis=1, keepdims=True)), axis=1)
        probs = np.concatenate((self.segment_prob, self.segment_prob.min(axis=1, keepdims=True)), axis=1)
        runs = find_events(tracks.swapaxes(0, 1))  # the modalities stand where videos usually do
        found = sorted(zip(runs.onset, runs.label, runs.video, runs.offset, strict=True))
        return tuple(
            Event(
                self.classes[label],
                tuple(VERBS)[m],
                float(onset),
                min(float(offset), self.duration),
                float(probs[onset:offset, m, label].mean()),
            )
            for onset, label, m, offset in found
        )


def write_events_json(file: str | os.PathLike[str], parsing: Parsing) -> None:
    """Write a parsing as JSON that fits `events.schema.json`, completely or not at all.

    Raises:
        UserError: the disk is full.
    """
    write_json(file, events_document(parsing))


def events_document(parsing: Parsing) -> dict[str, Any]:
    """The JSON form of a parsing. Seconds are rounded to milliseconds, probabilities to four digits."""
    audio, visual = np.moveaxis(parsing.segment_prob.astype(np.float64).round(4), 1, 0)
    audible, visible = parsing.tracks
    return {
        "format": FORMAT,
        "mmcse": __version__,
        "video": {
            "file": str(parsing.video),
            "duration": round(parsing.duration, 3),
            "audio": audible,
            "visual": visible,
        },
        "parser": parsing.parser,
        "data_kind": parsing.kind,
        "classes": list(parsing.classes),
        "events": [_rounded(event)._asdict() for event in parsing.events],
        "probabilities": {"audio": audio, "visual": visual},
    }


def write_events_csv(file: str | os.PathLike[str], parsing: Parsing) -> None:
    """Write the events as a CSV file, completely or not at all.

    Columns: video, label, modality, onset and offset (seconds), confidence, data_kind. Separated by commas, a header,
    UTF-8.

    Raises:
        UserError: the disk is full.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("video", *Event._fields, "data_kind"))
    writer.writerows((parsing.video, *_rounded(event), parsing.kind) for event in parsing.events)
    with atomic_write(file) as handle:
        handle.write(text.getvalue().encode())


def timeline_text(parsing: Parsing) -> str:
    """The events as a drawing in characters, and as a list.

    Returns:
        Lines of text without a newline at the end.
    """
    head = [str(parsing.video), f"{parsing.duration:.1f} s", parsing.parser["network"]]
    head += [f"no {what}" for what, there in zip(("sound", "pictures"), parsing.tracks, strict=True) if not there]
    lines = [" · ".join(head) + (f" {NOTES[parsing.kind]}" if parsing.kind in NOTES else "")]
    if not parsing.events:
        return "\n".join((*lines, "  no event"))
    width = max(len(event.label) for event in parsing.events)
    rows = [
        f"  {e.label:{width}} {VERBS[e.modality]:14} {e.onset:7.1f} to {e.offset:<7.1f} {e.confidence:.2f}"
        for e in parsing.events
    ]
    return "\n".join((*lines, *_drawing(parsing, width), "", *rows))


def _drawing(parsing: Parsing, width: int) -> Iterator[str]:
    """Two lines for each class that occurs."""
    S = len(parsing.present)
    step = -(-S // WIDTH)
    padded = np.pad(parsing.present, ((0, -S % step), (0, 0), (0, 0)))
    marks = np.asarray(padded.reshape(-1, step, *padded.shape[1:]).any(axis=1))  # (characters, 2, K)
    unit = "a second" if step == 1 else f"{step} seconds"
    yield f"  {'':{width}}       {'0 s':<{len(marks) - 1}}  (a character: {unit})"
    for k in np.flatnonzero(parsing.present.any(axis=(0, 1))):
        for m, (name, verb) in enumerate(((parsing.classes[k], "heard"), ("", "seen"))):
            yield f"  {name:{width}} {verb:5} " + "".join("█" if mark else "·" for mark in marks[:, m, k])


def _rounded(event: Event) -> Event:
    return event._replace(
        onset=round(event.onset, 3), offset=round(event.offset, 3), confidence=round(event.confidence, 4)
    )
