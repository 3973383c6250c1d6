"""Simulated data on disk: as a feature bank, or as the files that a user of the real data set has."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmcse.data.annotations import AUDIO_FILE, VISUAL_FILE, WEAK_FILES
from mmcse.data.bank import BankWriter, FeatureBank, lock_bank
from mmcse.data.layouts import VALOR, Stream
from mmcse.data.manifest import MANIFEST
from mmcse.data.npy import write_array
from mmcse.data.simllp.features import Features
from mmcse.data.simllp.settings import SPLITS, SimLLPSettings, preset_settings
from mmcse.data.simllp.simulate import SimLLP, SimulatedLabels
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.progress import progress_bar
from mmcse.resampling import resampling_matrix
from mmcse.vocabulary import LLP_CLASSES

NOTE = "SIMULATED.txt"
"""File that marks a folder in VALOR's layout as simulated."""

_FULL_FILE = "AVVP_dataset_full.csv"
_DENSE_FILES = {"true_audio": AUDIO_FILE, "true_visual": VISUAL_FILE}


def simulated_bank(
    folder: Path | str, *, preset: str = "small", world: int = 0, progress: bool = True, **overrides: Any
) -> FeatureBank:
    """Open the bank of a simulated LLP, building it first where it is not there yet.

    Several processes may ask for the same bank at once: one builds, the others wait. An interrupted build is continued.
    Unlike a real bank, a simulated one has segment-level truth for train too.

    Args:
        folder: the bank.
        preset: "smoke", "small" or "full".
        world: number of the world.
        progress: show how far it is, on standard error.
        **overrides: fields of `SimLLPSettings` that differ from the preset.

    Raises:
        UserError: the folder holds something else, an unknown preset or setting, or the disk is full.
    """
    folder, settings = Path(folder), preset_settings(preset, **overrides)
    simulation, source = SimLLP(settings, world), settings.describe(world)
    with lock_bank(folder):
        if (folder / MANIFEST).is_file():
            return _reopened(folder, source)
        T = settings.num_segments
        writer = BankWriter(folder, kind="simulated", source=source, classes=LLP_CLASSES, num_segments=T)
        writer.require_space(_bank_size(settings, len(LLP_CLASSES)))
        with _progress_bar(settings, progress) as bar:
            for split in SPLITS:
                _write_split(writer, simulation, split, bar)
        return writer.finish()


def _reopened(folder: Path, source: dict[str, Any]) -> FeatureBank:
    bank = FeatureBank.open(folder)
    if bank.source != source:
        names = sorted(k for k in bank.source.keys() | source.keys() if bank.source.get(k) != source.get(k))
        differences = ", ".join(f"{k}: {bank.source.get(k)!r} there, {source.get(k)!r} wanted" for k in names)
        raise UserError(
            f"{folder} holds another bank, of kind {bank.kind!r} ({differences}). "
            f"Choose another folder, or remove this one to simulate anew."
        )
    return bank


def _bank_size(settings: SimLLPSettings, num_classes: int) -> int:
    """Bytes of the arrays of a bank, roughly."""
    segment = 4 * (settings.audio_dim + settings.visual_dim + settings.motion_dim) + 4 * num_classes
    return settings.num_videos * settings.num_segments * segment


def _write_split(writer: BankWriter, simulation: SimLLP, split: str, bar: "tqdm[Any]") -> None:
    labels, settings = simulation.labels(split), simulation.settings
    for name, array in labels.arrays().items():
        writer.put(split, name, array)
    N, T = len(labels.ids), settings.num_segments
    with ExitStack() as files:
        appenders = {
            name: files.enter_context(writer.appender(split, name, (N, T, width), "float32"))
            for name, width in settings.widths.items()
        }
        for rows, features in _placed(simulation, labels):
            for name, appender in appenders.items():
                done = max(appender.rows_done - rows.start, 0)  # by a writer that was interrupted
                appender.append(getattr(features, name)[done:])
            bar.update(rows.stop - rows.start)


def _placed(simulation: SimLLP, labels: SimulatedLabels) -> Iterator[tuple[slice, Features]]:
    """Pieces of features with the rows of the split that they are."""
    start = 0
    for features in simulation.features(labels):
        rows = slice(start, start + len(features.audio))
        yield rows, features
        start = rows.stop


def _progress_bar(settings: SimLLPSettings, progress: bool) -> "tqdm[Any]":
    return progress_bar(total=settings.num_videos, description="simulating", unit="videos", enabled=progress)


def write_valor_layout(
    folder: Path | str, *, preset: str = "small", world: int = 0, progress: bool = True, **overrides: Any
) -> None:
    """Write a simulated LLP as the files that users of VALOR's features have.

    One .npy for each video and stream: `CLAP/features` (64, C), `CLIP/features` (T, C), `feats/r2plus1d_18` (T, C) and
    `segment_pseudo_labels` (T, K) under `CLAP` and `CLIP`; and LLP's annotation files under `annotations`. The 64
    tokens are such that resampling them gives the audio features of the bank with the same settings. Two things a bank
    has find no place in these files: truth for train and the kind, which `SIMULATED.txt` tells instead.

    Args:
        folder: where to write; must not exist, be empty, or hold an unfinished copy of the same.
        preset: as for `simulated_bank`.
        world: as for `simulated_bank`.
        progress: as for `simulated_bank`.
        **overrides: as for `simulated_bank`.

    Raises:
        UserError: the folder holds something else, an unknown preset or setting, or the disk is full.
    """
    folder, settings = Path(folder), preset_settings(preset, **overrides)
    simulation = SimLLP(settings, world)
    _claim(folder, settings.describe(world))
    for stream in VALOR.streams:
        (folder / stream.folder).mkdir(parents=True, exist_ok=True)
    splits = {split: simulation.labels(split) for split in SPLITS}
    _write_annotations(folder / "annotations", splits)
    with _progress_bar(settings, progress) as bar:
        for labels in splits.values():
            for rows, features in _placed(simulation, labels):
                _write_videos(folder, labels, rows, features)
                bar.update(rows.stop - rows.start)


def _claim(folder: Path, source: dict[str, Any]) -> None:
    """Leave the note that says what the folder is; refuse a folder that is something else."""
    note = (
        "These files are simulated (SimLLP of mmcse). They are not LLP, and scores on them say nothing about LLP.\n"
        f"{json.dumps(source)}\n"
    )
    path = folder / NOTE
    if folder.exists() and any(folder.iterdir()) and not (path.is_file() and path.read_text() == note):
        raise UserError(f"{folder} already holds something else. Choose another folder, or remove this one.")
    with atomic_write(path) as stream:
        stream.write(note.encode())


def _write_videos(folder: Path, labels: SimulatedLabels, rows: slice, features: Features) -> None:
    arrays = {stream.folder: _as_tokens(getattr(features, stream.name), stream) for stream in VALOR.features}
    arrays |= {stream.folder: getattr(labels, stream.name)[rows].astype(np.int64) for stream in VALOR.pseudo_labels}
    for place, videos in arrays.items():
        for video, array in zip(labels.ids[rows], videos, strict=True):
            write_array(folder / place / f"{video}.npy", array)


def _as_tokens(features: np.ndarray, stream: Stream) -> np.ndarray:
    """The smallest (n, N, C) tokens of a stream that resampling turns into these features (n, T, C)."""
    if stream.tokens is None:
        return features
    to_segments = resampling_matrix(stream.resampling, stream.tokens, features.shape[1]).numpy()
    return (np.linalg.pinv(to_segments) @ features).astype(np.float32)


def _write_annotations(folder: Path, splits: dict[str, SimulatedLabels]) -> None:
    weak = {split: _weak_rows(labels) for split, labels in splits.items()}
    for split, file in WEAK_FILES.items():
        _write_table(folder / file, ("filename", "event_labels"), weak[split])
    _write_table(folder / _FULL_FILE, ("filename", "event_labels"), [row for rows in weak.values() for row in rows])
    for name, file in _DENSE_FILES.items():
        rows = [row for split in ("val", "test") for row in _dense_rows(splits[split], getattr(splits[split], name))]
        _write_table(folder / file, ("filename", "onset", "offset", "event_labels"), rows)


def _video_name(labels: SimulatedLabels, row: int) -> str:
    return f"{labels.ids[row]}_0_{labels.true_audio.shape[1]}"


def _weak_rows(labels: SimulatedLabels) -> list[tuple[str, ...]]:
    return [
        (_video_name(labels, row), ",".join(LLP_CLASSES[c] for c in np.flatnonzero(weak)))
        for row, weak in enumerate(labels.weak)
    ]


def _dense_rows(labels: SimulatedLabels, truth: np.ndarray) -> list[tuple[str, ...]]:
    """One row for each run of segments in which a class is on; `truth` is (N, T, K)."""
    steps = np.diff(truth.transpose(0, 2, 1).astype(int), prepend=0, append=0)
    onsets, offsets = np.argwhere(steps == 1), np.argwhere(steps == -1)  # (E, 3): video, class, segment; in this order
    return [
        (_video_name(labels, row), str(onset), str(offset), LLP_CLASSES[c])
        for (row, c, onset), offset in zip(onsets.tolist(), offsets[:, 2].tolist(), strict=True)
    ]


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with atomic_write(path) as stream:
        stream.write("".join("\t".join(row) + "\n" for row in (header, *rows)).encode())
