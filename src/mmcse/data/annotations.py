"""LLP's annotation files to dense arrays.

A weak-label file (`filename`, `event_labels`) lists the videos of a split and the events of each as one comma list.
Two more files (`filename`, `onset`, `offset`, `event_labels`, one event a row, in seconds) annotate the videos of
validation and test densely, one file for what is audible, one for what is visible. All are tab separated.

The files of LLP have blemishes which every published number contains; they are survived and reported as `Blemish`,
never mended. What is not one of them is an error that names file and line.
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmcse.errors import MissingFileError, UserError
from mmcse.vocabulary import LLP_CLASSES, class_index

WEAK_FILES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
"""The weak-label file of each split."""
DENSE_SPLITS = ("val", "test")
"""The splits that the dense files annotate."""
AUDIO_FILE = "AVVP_eval_audio.csv"
ORIGINAL_AUDIO_FILE = "AVVP_eval_audio_original.csv"
"""The audible events as they were before three rows were corrected; published numbers were computed with it."""
VISUAL_FILE = "AVVP_eval_visual.csv"

_LLP_NAME = re.compile(r"(.{11})_\d+(?:\.\d+)?_\d+(?:\.\d+)?")
"""A YouTube id, and where in that video the clip begins and ends, in seconds."""

_WEAK_HEADER = ("filename", "event_labels")
_DENSE_HEADER = ("filename", "onset", "offset", "event_labels")

KNOWN_FILES = {
    "bbeb83e8af46a85075216b213d3464f92dd4ab71468c852ae454b82cc745c0a4": "LLP",
    "1811813b54c5f43c3be0a97bd0971cfb8a93818ca7b3ab96cdc7f4ac37ef37a6": "LLP",
    "3f7a2b040e3b67c15d08efef25002bf8c5b2320f11049eb99ae0eb2d62f8eb9b": "LLP",
    "89f112ffc602279c87cc2b2040c4cd42eaf163a9d7e61cf4e74250a343d21e56": "LLP",
    "e2274af694f3f27e38b840e0cd91a9d8d9ac85280f193e90828d26b22db69abe": "LLP",
    "d5435664668bec6e7eafb39059d2f424ed2682f6b55395262fc3cb691b7d0778": "LLP as corrected later",
    "249122f65501d8d611c0027a48643798fe622bedee60f7e6224b5a8e3c02f886": "LLP as used by published numbers",
}
"""What is known of a file by its sha256."""


class Blemish(NamedTuple):
    """A flaw of an annotation file that is survived; prints as one line."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Annotations:
    """The labels of one split, in the order of its weak-label file. Shapes: N videos, T segments, K classes."""

    split: str
    names: tuple[str, ...]
    """The N video names; LLP's are `<id>_<start>_<end>`."""
    weak: np.ndarray
    """(N, K) boolean: the event occurs in the video, in some modality."""
    true_audio: np.ndarray | None = None
    """(N, T, K) boolean: the event is audible in the segment. None where the split is not annotated densely."""
    true_visual: np.ndarray | None = None
    """(N, T, K) boolean: the event is visible in the segment."""
    blemishes: tuple[Blemish, ...] = ()
    """What was found wrong and survived."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The N video ids, by which feature files are named."""
        return tuple(map(video_id, self.names))

    def __iter__(self) -> Iterator[Any]:
        """Unpacks as `ids, weak, true_audio, true_visual`."""
        return iter((self.ids, self.weak, self.true_audio, self.true_visual))

    @property
    def blemish_counts(self) -> Counter[str]:
        """How many blemishes of each kind there are."""
        return Counter(blemish.kind for blemish in self.blemishes)


def read_annotations(
    folder: Path | str,
    split: str,
    audio_file: str = AUDIO_FILE,
    *,
    classes: Sequence[str] = LLP_CLASSES,
    num_segments: int = 10,
) -> Annotations:
    """Read the labels of one split of LLP.

    A row of a dense file counts for the video whose full name it carries, as in the protocol of published numbers: a
    row with a misspelled name marks nothing.

    Args:
        folder: where the files lie, by the names LLP gives them.
        split: "train", "val" or "test". There is no dense truth for "train".
        audio_file: the file of audible events: `AUDIO_FILE`, `ORIGINAL_AUDIO_FILE` or one of your own.
        classes: the vocabulary, K names in order.
        num_segments: T; a segment is one second long.

    Raises:
        MissingFileError: the folder or one of the files is not there.
        UserError: a file is not what LLP's files are like; the message names file and line.
    """
    folder = Path(folder)
    if split not in WEAK_FILES:
        raise UserError(f"Unknown split {split!r}: expected one of {', '.join(WEAK_FILES)}.")
    videos = _read_weak(folder / WEAK_FILES[split], classes)
    if split not in DENSE_SPLITS:
        return Annotations(split, videos.names, videos.weak, blemishes=videos.blemishes)

    known = _names_of_dense_splits(folder)
    audio = _read_dense(folder / audio_file, videos, known, classes, num_segments)
    visual = _read_dense(folder / VISUAL_FILE, videos, known, classes, num_segments)
    return Annotations(
        split,
        videos.names,
        videos.weak,
        audio.truth,
        visual.truth,
        (*videos.blemishes, *audio.blemishes, *visual.blemishes, *_not_in_weak(videos, audio, visual, classes)),
    )


def read_ids(folder: Path | str, split: str) -> tuple[str, ...]:
    """The video ids of a split, whatever its labels; none where its file is absent."""
    path = Path(folder) / WEAK_FILES[split]
    return tuple(video_id(name) for _, (name, _) in _rows(path, _WEAK_HEADER)) if path.is_file() else ()


def video_id(name: str) -> str:
    """What the feature files of a video are named by: the YouTube id of an LLP name, any other name as it is.

    Args:
        name: a name of an annotation file, or the name of a video file without its ending; LLP's are
            `<11 characters>_<start>_<end>`.
    """
    found = _LLP_NAME.fullmatch(name)
    return found[1] if found else name


def identify(file: Path | str) -> str:
    """Which edition of LLP's file this is, by its sha256: a value of `KNOWN_FILES`, or "unknown"."""
    return KNOWN_FILES.get(sha256(file), "unknown")


def sha256(file: Path | str) -> str:
    """Checksum of a file as 64 hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Videos(NamedTuple):
    path: Path
    names: tuple[str, ...]
    weak: np.ndarray  # (N, K)
    blemishes: tuple[Blemish, ...]


class _Truth(NamedTuple):
    truth: np.ndarray  # (N, T, K)
    blemishes: tuple[Blemish, ...]


def _read_weak(path: Path, classes: Sequence[str]) -> _Videos:
    """The videos of a split with their weak labels."""
    line_of: dict[str, int] = {}  # by id: two videos with one id would share their feature files
    names, cells, blemishes = [], [], []
    for line, (name, labels) in _rows(path, _WEAK_HEADER):
        where = f"{path.name}, line {line}"
        if first := line_of.get(video_id(name)):
            raise UserError(f"{path}, line {line}: video {name!r} is already listed in line {first}. Remove one.")
        line_of[video_id(name)] = line
        indices = [class_index(label, classes, f"{path}, line {line}") for label in labels.split(",")]
        if len(set(indices)) < len(indices):
            blemishes.append(Blemish("class named twice", where, f"{name} {labels}"))
        cells += [(len(names), index) for index in indices]
        names.append(name)
    weak = np.zeros((len(names), len(classes)), dtype=bool)
    weak[tuple(np.array(cells).T)] = True
    return _Videos(path, tuple(names), weak, tuple(blemishes))


def _names_of_dense_splits(folder: Path) -> frozenset[str] | None:
    """Every video name that a dense file may rightly carry; None where a split is absent, so that nobody knows."""
    paths = [folder / WEAK_FILES[split] for split in DENSE_SPLITS]
    if not all(path.is_file() for path in paths):
        return None
    return frozenset(name for path in paths for _, (name, _) in _rows(path, _WEAK_HEADER))


def _read_dense(
    path: Path, videos: _Videos, known: frozenset[str] | None, classes: Sequence[str], num_segments: int
) -> _Truth:
    """The dense truth of the videos, from a file that holds other videos as well."""
    row_of = {name: row for row, name in enumerate(videos.names)}
    spans: set[tuple[int, int, int, int]] = set()
    unknown: set[str] = set()
    blemishes = []
    for line, (name, onset, offset, label) in _rows(path, _DENSE_HEADER):
        where, what = f"{path.name}, line {line}", f"{name} {onset} {offset} {label}"
        start = _second(onset, num_segments, f"{path}, line {line}: onset")
        stop = _second(offset, num_segments, f"{path}, line {line}: offset")
        index = class_index(label, classes, f"{path}, line {line}")
        if name not in row_of:
            if known is not None and name not in known and name not in unknown:
                unknown.add(name)
                blemishes.append(Blemish("unknown video", where, name))
            continue
        span = (row_of[name], start, stop, index)
        if start >= stop:
            blemishes.append(Blemish("empty span", where, what))
        elif span in spans:
            blemishes.append(Blemish("duplicate row", where, what))
        spans.add(span)
    truth = _mark(spans, (len(videos.names), num_segments, len(classes)))
    seen = {row for row, *_ in spans}
    missing = [name for row, name in enumerate(videos.names) if row not in seen]
    return _Truth(truth, (*blemishes, *(Blemish("video without rows", path.name, name) for name in missing)))


def _mark(spans: set[tuple[int, int, int, int]], shape: tuple[int, int, int]) -> np.ndarray:
    """Boolean (N, T, K) that is true where a span (video, onset, offset, class) covers the segment."""
    N, T, K = shape
    video, onset, offset, index = np.array(sorted(spans), dtype=np.intp).reshape(-1, 4).T
    video, onset, offset, index = (column[onset < offset] for column in (video, onset, offset, index))
    steps = np.zeros((N, T + 1, K), dtype=np.int32)  # up at an onset, down at an offset; the running sum is the cover
    np.add.at(steps, (video, onset, index), 1)
    np.add.at(steps, (video, offset, index), -1)
    return steps.cumsum(axis=1)[:, :T] > 0


def _not_in_weak(videos: _Videos, audio: _Truth, visual: _Truth, classes: Sequence[str]) -> Iterator[Blemish]:
    """The events that are annotated densely but that the weak label of the video does not name."""
    occurs = (audio.truth | visual.truth).any(axis=1)
    for row, index in np.argwhere(occurs & ~videos.weak):
        yield Blemish("event not in the weak label", videos.path.name, f"{videos.names[row]} {classes[index]}")


def _second(text: str, num_segments: int, where: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{where} is {text!r}: expected a whole number of seconds.") from None
    if not 0 <= value <= num_segments:
        raise UserError(f"{where} is {value}: expected 0 to {num_segments}, the length of a video in segments.")
    return value


def _rows(path: Path, header: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row; checks header, separator and field count, and skips blank lines."""
    if not path.is_file():
        raise MissingFileError(
            f"There is no annotation file {path.name} in {path.parent}. "
            f"The files are in the folder data/ of the repository YapengTian/AVVP-ECCV20."
        )
    expected = f"expected {len(header)} columns separated by tabs: {', '.join(header)}"
    count = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in (reader := csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)):
                if not row:
                    continue
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    hint = " It looks separated by commas." if count == 0 and len("".join(row).split(",")) >= 2 else ""
                    raise UserError(f"{where}: found {len(row)} column(s), {expected}.{hint}")
                if count == 0 and tuple(row) != header:
                    raise UserError(f"{where}: the header is {', '.join(row)!r}; {expected}.")
                if count and not all(row):
                    raise UserError(f"{where}: the field {header[row.index('')]!r} is empty.")
                if count:
                    yield reader.line_num, row
                count += 1
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error}); {expected}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if count < 2:
        raise UserError(f"{path} is empty: {expected}, with a header and at least one row.")
