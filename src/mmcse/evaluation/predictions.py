"""Predictions on disk, so that any method can be scored: `mmcse score PREDICTIONS.npz`."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcse.data.annotations import AUDIO_FILE, ID_LENGTH, Annotations, read_annotations
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluation.fscores import parsing_scores
from mmcse.files import atomic_write

_ARRAYS = ("ids", "audio", "visual")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, SyntaxError)


def save_predictions(file: str | os.PathLike[str], ids: Sequence[str], audio: np.ndarray, visual: np.ndarray) -> None:
    """Write predictions in the form that `score_predictions` reads, completely or not at all.

    Args:
        file: the .npz file to write.
        ids: N video ids or names.
        audio: (N, T, K) decisions (boolean) or probabilities.
        visual: (N, T, K) likewise.

    Raises:
        UserError: the shapes do not fit together, or the disk is full.
    """
    if not (len(ids) == len(audio) == len(visual) and audio.shape == visual.shape and audio.ndim == 3):
        raise UserError(
            f"Cannot save predictions of shape {audio.shape} (audio) and {visual.shape} (visual) for "
            f"{len(ids)} ids; expected the same (N, T, K) with N ids."
        )
    with atomic_write(file) as handle:
        np.savez_compressed(handle, ids=np.array(ids, dtype=np.str_), audio=audio, visual=visual)


def score_predictions(
    file: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    split: str,
    audio_file: str = AUDIO_FILE,
    *,
    threshold: float = 0.5,
) -> dict[str, float]:
    """Score the predictions of any method against LLP's annotations.

    The file is what `numpy.savez` writes, with the arrays `ids` (N,), strings, the videos' names or their
    first 11 characters in any order, and `audio` and `visual` (N, T, K), decisions or probabilities. Every
    video of the split must be there once. No gate is applied: a method with one applies it before saving.

    Args:
        file: the .npz file.
        annotations: folder with LLP's annotation files.
        split: name of the split, `val` or `test`.
        audio_file: name of the file with the audible events.
        threshold: least probability that counts as a decision.

    Returns:
        The eleven percentages of `parsing_scores`.

    Raises:
        MissingFileError: the predictions or the annotations are not there.
        UserError: the file cannot be read as described, or does not cover exactly the videos of the split.
    """
    path = Path(file)
    ids, audio, visual = _read_arrays(path)
    truth = read_annotations(Path(annotations), split, audio_file=audio_file)
    if truth.true_audio is None or truth.true_visual is None:
        raise UserError(f"Split {split!r} has no segment-level truth to score against. Use val or test.")
    T, K = truth.true_audio.shape[1:]
    decisions = []
    for name, array in (("audio", audio), ("visual", visual)):
        if array.shape != (len(ids), T, K):
            raise UserError(
                f"{path}: {name!r} has shape {array.shape}; expected {(len(ids), T, K)}, that is {len(ids)} "
                f"ids, {T} segments and {K} classes."
            )
        decisions.append(_decide(path, name, array, threshold))
    order = _positions(path, _as_strings(path, ids), truth)
    return parsing_scores(decisions[0][order], decisions[1][order], truth.true_audio, truth.true_visual)


def _read_arrays(path: Path) -> list[np.ndarray]:
    """The three arrays of a predictions file."""
    if not path.is_file():
        raise MissingFileError(f"There is no predictions file {path}. Give the path of an .npz file.")
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise UserError(
                f"{path} is not an .npz file. Write it with numpy.savez(file, ids=..., audio=..., visual=...)."
            )
    try:
        with np.load(path, allow_pickle=False) as archive:
            if missing := [name for name in _ARRAYS if name not in archive.files]:
                raise UserError(
                    f"{path} holds {_some(archive.files)}, but not {_some(missing)}; expected ids, audio, visual."
                )
            return [archive[name] for name in _ARRAYS]
    except _DAMAGED as error:
        raise UserError(f"{path} is truncated or damaged ({error}). Write or copy it again.") from error
    except UserError:
        raise
    except ValueError as error:  # numpy's for a pickled array, and for a header or a body that makes no sense
        raise UserError(
            f"{path} holds an array that cannot be read ({error}). Save plain arrays, not Python objects: "
            "ids=numpy.array(ids, dtype=str), audio and visual boolean or floating point."
        ) from error


def _as_strings(path: Path, ids: np.ndarray) -> list[str]:
    """The ids as a list of strings, from text or bytes."""
    if ids.ndim != 1 or ids.dtype.kind not in "US":
        raise UserError(f"{path}: 'ids' is {ids.dtype} of shape {ids.shape}; expected (N,) strings.")
    return np.strings.decode(ids, "utf-8", "replace").tolist() if ids.dtype.kind == "S" else ids.tolist()


def _decide(path: Path, name: str, array: np.ndarray, threshold: float) -> np.ndarray:
    """Boolean decisions from decisions or probabilities."""
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name!r} is {array.dtype}; expected booleans or probabilities.")
    if wrong := int(np.count_nonzero(~np.isfinite(array))):
        raise UserError(f"{path}: {name!r} has {wrong} NaN or infinite values; expected probabilities.")
    low, high = array.min(initial=0), array.max(initial=0)
    if low < 0 or high > 1:
        raise UserError(
            f"{path}: {name!r} has values from {low:g} to {high:g}; expected booleans or probabilities (not logits)."
        )
    return array >= threshold


def _positions(path: Path, ids: list[str], truth: Annotations) -> np.ndarray:
    """(N,) position in the file of each video of the split."""
    video_of = {key: i for i, name in enumerate(truth.names) for key in (name, name[:ID_LENGTH])}
    unknown = [name for name in ids if name not in video_of]
    position = {video_of[name]: i for i, name in enumerate(ids) if name in video_of}
    repeated = [name for i, name in enumerate(ids) if name in video_of and position[video_of[name]] != i]
    missing = [name for i, name in enumerate(truth.names) if i not in position]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, f"of the {len(truth.names)} videos of {truth.split} are missing"),
            (unknown, f"ids are not in {truth.split}"),
            (repeated, "ids are there twice"),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"{path}: {'; '.join(problems)}. Expected each video of the split once, by its name or the first "
            f"{ID_LENGTH} characters of it."
        )
    return np.array([position[i] for i in range(len(truth.names))])


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
