"""Predictions on disk, so that any method can be scored: `mmcse score PREDICTIONS.npz`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcse.data.annotations import AUDIO_FILE, Annotations, read_annotations, video_id
from mmcse.data.npz import as_strings, read_arrays, some
from mmcse.errors import UserError
from mmcse.evaluation.events import BoolArray
from mmcse.evaluation.fscores import parsing_scores
from mmcse.files import atomic_write


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

    The file is what `numpy.savez` writes, with the arrays `ids` (N,), strings, the videos' names or their ids (of LLP's
    names the first 11 characters) in any order, and `audio` and `visual` (N, T, K), decisions or probabilities. Every
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
    truth = read_annotations(Path(annotations), split, audio_file=audio_file)
    audio, visual = read_predictions(file, truth, threshold=threshold)
    assert truth.true_audio is not None  # or they could not have been read
    assert truth.true_visual is not None
    return parsing_scores(audio, visual, truth.true_audio, truth.true_visual)


def read_predictions(
    file: str | os.PathLike[str], truth: Annotations, *, threshold: float = 0.5
) -> tuple[BoolArray, BoolArray]:
    """Read the predictions of any method, as `score_predictions` describes them, in the order of the annotations.

    Args:
        file: the .npz file.
        truth: annotations of the split that was predicted.
        threshold: least probability that counts as a decision.

    Returns:
        Decisions (N, T, K) for audio and visual.

    Raises:
        MissingFileError: the predictions are not there.
        UserError: the file cannot be read as described, or does not cover exactly the videos of the split; or these
            are not annotated densely.
    """
    path = Path(file)
    if truth.true_audio is None or truth.true_visual is None:
        raise UserError(f"Split {truth.split!r} has no segment-level truth to score against. Use val or test.")
    T, K = truth.true_audio.shape[1:]
    arrays = read_arrays(
        path,
        ("ids", "audio", "visual"),
        most=1_000 * (truth.true_audio.size + 1_000),
        what="predictions",
        advice="Write it with numpy.savez(file, ids=numpy.array(ids, dtype=str), audio=..., visual=...), audio and "
        "visual boolean or floating point.",
    )
    ids = as_strings(path, "ids", arrays["ids"])
    decisions = []
    for name in ("audio", "visual"):
        if (array := arrays[name]).shape != (len(ids), T, K):
            raise UserError(
                f"{path}: {name!r} has shape {array.shape}; expected {(len(ids), T, K)}, that is {len(ids)} "
                f"ids, {T} segments and {K} classes."
            )
        decisions.append(_decide(path, name, array, threshold))
    order = _positions(path, ids, truth)
    return decisions[0][order], decisions[1][order]


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
    video_of = {key: i for i, name in enumerate(truth.names) for key in (name, video_id(name))}
    unknown = [name for name in ids if name not in video_of]
    position = {video_of[name]: i for i, name in enumerate(ids) if name in video_of}
    repeated = [name for i, name in enumerate(ids) if name in video_of and position[video_of[name]] != i]
    missing = [name for i, name in enumerate(truth.names) if i not in position]
    problems = [
        f"{len(names)} {what} ({some(names)})"
        for names, what in (
            (missing, f"of the {len(truth.names)} videos of {truth.split} are missing"),
            (unknown, f"ids are not in {truth.split}"),
            (repeated, "ids are there twice"),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"{path}: {'; '.join(problems)}. Expected each video of the split once, by its name or its id (of an LLP "
            "name the first 11 characters)."
        )
    return np.array([position[i] for i in range(len(truth.names))])
