"""Which weak labels a method takes away from one modality of a video: a table of text, one line a video.

    id  removed_from_audio  removed_from_visual
    a1  Speech,Dog
    b2                      Singing

The columns are separated by tabs, classes by commas, and nothing is quoted; videos without changes need no line. MA's
runs write such files (`mmcse.artefacts`), and `data.label_changes` reads them for any method.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write
from mmcse.vocabulary import class_index

HEADER = ("id", "removed_from_audio", "removed_from_visual")

log = logging.getLogger(__name__)


class RemovedLabels(NamedTuple):
    """What is taken away from the weak labels of N videos, booleans (N, K) each."""

    audio: np.ndarray
    visual: np.ndarray

    def lines(self, weak: np.ndarray, classes: Sequence[str]) -> Iterator[str]:
        """How much that is, for people: in all, then for each modality its classes, the most changed ones first.

        Args:
            weak: (N, K) weak labels of the videos.
            classes: names of the K classes.
        """
        removed, both = [int(changes.sum()) for changes in self], int((self.audio & self.visual).sum())
        yield (
            f"of {int((weak > 0).sum()):,} labels, audio loses {removed[0]:,} and visual {removed[1]:,}; "
            f"{both:,} are lost by both"
        )
        for name, changes in zip(self._fields, self, strict=True):
            counts = changes.sum(axis=0)
            most = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]]
            yield f"{name}: {', '.join(f'{classes[k]} {counts[k]:,}' for k in most) or 'none'}"


def write_label_changes(
    path: str | os.PathLike[str], removed: RemovedLabels, ids: Sequence[str], classes: Sequence[str]
) -> None:
    """Write the changes of N videos.

    Raises:
        UserError: an id or a class cannot stand in the table, or the file cannot be written.
    """
    rows = np.flatnonzero((removed.audio | removed.visual).any(axis=1)).tolist()
    for name, forbidden in (*((ids[row], "\t\n\r") for row in rows), *((name, ",\t\n\r") for name in classes)):
        if not name or set(name) & set(forbidden):
            raise UserError(
                f"{name!r} cannot stand in a table of label changes. Expected text without tabs and line ends, and "
                "without commas in the name of a class. Name it otherwise in the annotations."
            )
    lines: list[tuple[str, ...]] = [HEADER]
    for row in rows:
        audio, visual = (",".join(classes[k] for k in np.flatnonzero(changes[row]).tolist()) for changes in removed)
        lines.append((ids[row], audio, visual))
    with atomic_write(path) as file:
        file.write("".join("\t".join(line) + "\n" for line in lines).encode())


def read_label_changes(
    path: str | os.PathLike[str], ids: Sequence[str], classes: Sequence[str], weak: np.ndarray
) -> RemovedLabels:
    """Read the changes of N videos. Lines of other videos are counted in a warning and left out.

    Args:
        path: the file.
        ids: of the N videos.
        classes: the vocabulary, K names in order.
        weak: (N, K) their weak labels.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not of this form, has a video twice or none of the N, or removes a label that is not there.
            The message names file and line.
    """
    row_of = {video: row for row, video in enumerate(ids)}
    removed = RemovedLabels(*(np.zeros(weak.shape, dtype=bool) for _ in RemovedLabels._fields))
    seen: set[str] = set()
    for line, (video, *cells) in enumerate(_lines(Path(path)), start=2):
        where = f"{path}, line {line}"
        if video in seen:
            raise UserError(f"{where}: video {video!r} stands there a second time. Remove one of the lines.")
        seen.add(video)
        named = [[class_index(name, classes, where) for name in cell.split(",") if cell] for cell in cells]
        if (row := row_of.get(video)) is None:
            continue
        for changes, indices in zip(removed, named, strict=True):
            if absent := [classes[k] for k in indices if not weak[row, k]]:
                raise UserError(
                    f"{where}: {video} is not labelled with {', '.join(absent)}; there is nothing to remove."
                )
            changes[row, indices] = True
    if unknown := len(seen - row_of.keys()):
        if unknown == len(seen):
            raise UserError(f"{path} names {unknown} videos, none of which is in the data (which begin with {ids[0]}).")
        log.warning("%s changes the labels of %d videos that the data do not have.", path, unknown)
    return removed


def _lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}. Expected label changes: lines of {', '.join(HEADER)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")  # whose line ends are "\n" now; other separators belong to names
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error}.") from None
    head, *lines = [line.split("\t") for line in text.removesuffix("\n").split("\n") if text] or [[]]
    if tuple(head) != HEADER:
        raise UserError(f"{path}, line 1: found {head}. Expected the tab-separated columns {', '.join(HEADER)}.")
    for number, cells in enumerate(lines, start=2):
        if len(cells) != len(HEADER) or not cells[0]:
            raise UserError(
                f"{path}, line {number}: found {cells}. Expected {len(HEADER)} columns: {', '.join(HEADER)}."
            )
    return lines
