"""Labels of segments that a method makes for the training videos: a folder with two arrays, and what they are.

    segment_audio.npy      (N, T, K) numbers from 0 to 1; LSLD's visual ones are soft
    segment_visual.npy     likewise
    segment_labels.json    ids of the N videos, names of the K classes, and how the labels were made

Where the last one is there, videos are found by their ids: labels made from one bank serve another one, of other
features of the same videos. A folder without it, made elsewhere, is taken to hold the videos in the order of the bank.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcse.data.npy import read_array
from mmcse.data.npz import some
from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write, remove_unfinished, write_json

FILES = ("segment_audio.npy", "segment_visual.npy")
ABOUT = "segment_labels.json"


def require_own(folder: str | os.PathLike[str]) -> None:
    """Check that labels may be written to a folder: there is none, it is empty, or it holds labels of ours.

    Raises:
        UserError: it holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Choose a folder for the segment labels.")
    found = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) if folder.exists() else []
    foreign = [name for name in found if name not in (*FILES, ABOUT)]
    if foreign or (found and ABOUT not in found):
        raise UserError(
            f"{folder} is not a folder of labels that `mmcse segment-labels` wrote: it holds {some(foreign or found)}. "
            "Choose another folder."
        )


def write_segment_labels(
    folder: str | os.PathLike[str],
    audio: np.ndarray,
    visual: np.ndarray,
    *,
    ids: Sequence[str],
    classes: Sequence[str],
    made: Mapping[str, Any],
) -> None:
    """Write labels that `data.segment_labels` reads. A folder that is not complete is never read as if it were.

    Args:
        folder: where to; labels of ours that lie there are replaced.
        audio: (N, T, K) labels from 0 to 1.
        visual: likewise.
        ids: of the N videos.
        classes: names of the K classes.
        made: how the labels were made, plain values; neither paths nor times, so that equal labels are equal files.

    Raises:
        UserError: the folder holds something else, or the disk is full.
    """
    folder = Path(folder)
    require_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    for name in FILES:  # the old ones must not be taken for those that the new description is of
        (folder / name).unlink(missing_ok=True)
    write_json(folder / ABOUT, {"ids": list(ids), "classes": list(classes), "made": made})
    for name, labels in zip(FILES, (audio, visual), strict=True):
        with atomic_write(folder / name) as handle:
            np.save(handle, labels.astype(np.float32), allow_pickle=False)


def read_segment_labels(
    folder: str | os.PathLike[str], ids: Sequence[str], classes: Sequence[str], num_segments: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the labels of audio and visual.

    Args:
        folder: where the files lie.
        ids: of the N videos of the data.
        classes: the vocabulary of the data, K names in order.
        num_segments: T of the data.

    Returns:
        (N, T, K) float32 each, in the order of `ids`.

    Raises:
        MissingFileError: a file is not there.
        UserError: a file is damaged, of another shape, or holds anything but numbers from 0 to 1; or the labels are of
            other videos or classes.
    """
    folder = Path(folder)
    stored = _stored_ids(folder / ABOUT, classes) if (folder / ABOUT).is_file() else ids
    row_of = {video: row for row, video in enumerate(stored)}
    if missing := [video for video in ids if video not in row_of]:
        raise UserError(
            f"{folder} has no labels for {len(missing)} of {len(ids)} training videos: {some(missing)}. Make labels "
            "for these data."
        )
    rows = np.array([row_of[video] for video in ids], dtype=np.intp)
    shape = len(stored), num_segments, len(classes)
    audio, visual = (_read(folder / name, shape)[rows] for name in FILES)
    return audio, visual


def _stored_ids(file: Path, classes: Sequence[str]) -> list[str]:
    """The ids that a description names, if it is of these classes."""
    try:
        about = json.loads(file.read_bytes())
        ids, named = [str(video) for video in about["ids"]], [str(name) for name in about["classes"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error!r}). Make the segment labels again.") from None
    if named != list(classes):
        raise UserError(
            f"{file}: the labels are of {len(named)} classes ({some(named)}), the data have {len(classes)} "
            f"({some(classes)}). Make labels for these data."
        )
    return ids


def _read(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    if not file.is_file():
        raise MissingFileError(
            f"There is no file {file}. Expected segment labels of the training videos; `mmcse segment-labels` makes "
            "LSLD's."
        )
    labels = read_array(file)
    if labels.shape != shape or labels.dtype.kind not in "fbiu":
        raise UserError(
            f"{file} holds {labels.dtype} of shape {labels.shape}; expected numbers of shape {shape}: training videos, "
            "segments, classes."
        )
    labels = labels.astype(np.float32)
    if not ((labels >= 0) & (labels <= 1)).all():
        raise UserError(f"{file} holds numbers outside 0 to 1; expected labels.")
    return labels
