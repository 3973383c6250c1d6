"""Layout folders of LLP's features, a file per video and stream, to a feature bank: `mmcse data prepare`."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from mmcse.data.annotations import (
    AUDIO_FILE,
    DENSE_SPLITS,
    ORIGINAL_AUDIO_FILE,
    VISUAL_FILE,
    WEAK_FILES,
    identify,
    read_annotations,
    sha256,
)
from mmcse.data.bank import BankWriter, FeatureBank, lock_bank
from mmcse.data.layouts import Layout, PseudoLabels, Stream, layout_named
from mmcse.data.manifest import MANIFEST, TOKENS, Kind, Manifest
from mmcse.data.npy import DamagedFileError, num_bytes
from mmcse.data.survey import SplitFiles, find_files, stream_shapes
from mmcse.errors import UserError
from mmcse.progress import progress_bar
from mmcse.resampling import resampling_matrix
from mmcse.vocabulary import LLP_CLASSES

READERS = 8
"""Threads that read files; they mostly wait for the disk."""
CHUNK = 64
"""Videos that are held in memory at a time."""

Tokens = Literal["segments", "stored"]
"""What a bank holds of a stream of features: T segments, or all N tokens of the files (CLAP 64, ResNet-152 80), for
networks that do more than a linear map before they average them (CMPAE)."""


def prepare_bank(
    features: Path | str,
    annotations: Path | str,
    folder: Path | str,
    *,
    layout: str | Layout,
    dtype: str = "float32",
    skip_missing: bool = False,
    kind: Kind = "real",
    splits: Sequence[str] = tuple(WEAK_FILES),
    num_segments: int = 10,
    classes: Sequence[str] = LLP_CLASSES,
    tokens: Tokens = "segments",
    progress: bool = True,
) -> FeatureBank:
    """Pack features and labels into a bank, or open the bank that was made of the same before.

    Streams are resampled to T segments in float64, or kept as they are. An interrupted run goes on where it stopped, at
    the next call.

    Args:
        features: folder in one of the known layouts.
        annotations: folder with LLP's annotation files. Where it also holds the original file of audible events, the
            bank gets `true_audio_original` from it.
        folder: the bank.
        layout: "valor" (CLAP, CLIP), "llp" (VGGish, ResNet-152), or a `Layout`.
        dtype: "float32" or "float16", of the features in the bank.
        skip_missing: go on without the videos that lack a file; the manifest counts and names them.
        kind: "real", or what else the features are.
        splits: which to pack.
        num_segments: T.
        classes: the vocabulary, K names in order.
        tokens: what a bank holds of a stream, see `Tokens`.
        progress: show how far it is, on standard error.

    Raises:
        MissingFileError: folders, annotations or feature files are not there; all missing files are counted.
        UserError: a file cannot be used, the disk is full, or `folder` holds a bank made of something else.
    """
    features, annotations, folder = Path(features), Path(annotations), Path(folder)
    layout = layout_named(layout)
    if dtype not in ("float32", "float16"):
        raise UserError(f"A bank holds float32 or float16 features, not {dtype!r}.")
    if tokens not in get_args(Tokens):
        raise UserError(f"tokens is {tokens!r}; expected {' or '.join(map(repr, get_args(Tokens)))}.")
    if not splits:
        raise UserError(f"No splits to prepare: expected some of {', '.join(WEAK_FILES)}.")
    labels = {split: _read_labels(annotations, split, classes, num_segments) for split in splits}
    source = _source(features, annotations, layout, dtype, splits) | ({} if tokens == "segments" else {TOKENS: tokens})
    with lock_bank(folder):
        if (folder / MANIFEST).is_file():
            return _reuse(folder, Manifest(kind, source, tuple(classes), num_segments), skip_missing)
        ids_of = {split: arrays["ids"].tolist() for split, arrays in labels.items()}
        found = find_files(features, layout, ids_of, skip_missing)
        source["skipped"] = {files.split: files.skipped for files in found}
        writer = BankWriter(folder, kind=kind, source=source, classes=classes, num_segments=num_segments)
        shapes = stream_shapes(layout, found, num_segments, len(classes))
        packing = _Packing(writer, shapes, num_segments, np.dtype(dtype), tokens, progress)
        writer.require_space(packing.size(found))
        for files in found:
            for name, array in labels[files.split].items():
                writer.put(files.split, name, array[files.rows])
            for stream, paths in files.files:
                packing.pack(files.split, stream, paths)
        return writer.finish({files.split: len(files.skipped) for files in found})


@dataclass(frozen=True)
class _Packing:
    """Reads, resamples and writes the files of streams."""

    writer: BankWriter
    shapes: Mapping[str, tuple[int, int]]  # (N, C) of the files of each stream
    num_segments: int
    dtype: np.dtype
    tokens: Tokens
    progress: bool

    def pack(self, split: str, stream: Stream | PseudoLabels, paths: Sequence[Path]) -> None:
        """One array of the bank, from the row where an interrupted run stopped."""
        with (
            self.writer.appender(split, stream.name, *self._packed(stream, len(paths))) as array,
            ThreadPoolExecutor(READERS) as pool,
            progress_bar(
                total=len(paths),
                description=f"{split} {stream.name}",
                unit="videos",
                initial=array.rows_done,
                enabled=self.progress,
            ) as bar,
        ):
            for start in range(array.rows_done, len(paths), CHUNK):
                chunk = paths[start : start + CHUNK]
                try:
                    rows = np.stack(list(pool.map(lambda path: self._read(stream, path), chunk)))
                except DamagedFileError as error:
                    raise UserError(
                        f"{error} Replace the file and run the same command again: what is done is kept. "
                        f"`mmcse data check` lists all such files at once."
                    ) from error
                array.append(rows)
                bar.update(len(rows))

    def size(self, found: Sequence[SplitFiles]) -> int:
        """Bytes of the bank; a little more, as if every split had all the truths."""
        streams = [self._packed(stream, len(paths)) for files in found for stream, paths in files.files]
        truth = (4, sum(len(files.rows) for files in found), *next(iter(self.shapes.values())))
        return sum(num_bytes(*array) for array in streams) + num_bytes(truth, np.dtype(np.uint8))

    def _packed(self, stream: Stream | PseudoLabels, count: int) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and dtype of a stream in the bank."""
        dtype = self.dtype if isinstance(stream, Stream) else np.dtype(np.uint8)
        stored, width = self.shapes[stream.name]
        return (count, self.num_segments if self.tokens == "segments" else stored, width), dtype

    def _read(self, stream: Stream | PseudoLabels, path: Path) -> np.ndarray:
        """One video of a stream as it stands in the bank, (T, C), (N, C) or (T, K)."""
        array = stream.read(path, shape := self.shapes[stream.name])
        if isinstance(stream, PseudoLabels):
            return array
        if self.tokens == "segments" and shape[0] != self.num_segments:
            matrix = resampling_matrix(stream.resampling, shape[0], self.num_segments).numpy()
            array = matrix @ array.astype(np.float64)
        with np.errstate(over="ignore"):
            packed = array.astype(self.dtype)
        if not np.isfinite(packed).all():
            raise DamagedFileError(path, "out of range", f"it holds values too large for {self.dtype}")
        return packed


def _read_labels(folder: Path, split: str, classes: Sequence[str], num_segments: int) -> dict[str, np.ndarray]:
    """The arrays of labels of a split, as they are named in a bank."""
    labels = read_annotations(folder, split, classes=classes, num_segments=num_segments)
    arrays = {"ids": np.array(labels.ids), "weak": labels.weak}
    if labels.true_audio is not None and labels.true_visual is not None:
        arrays |= {"true_audio": labels.true_audio, "true_visual": labels.true_visual}
    if split in DENSE_SPLITS and (folder / ORIGINAL_AUDIO_FILE).is_file():
        original = read_annotations(folder, split, ORIGINAL_AUDIO_FILE, classes=classes, num_segments=num_segments)
        if original.true_audio is not None:
            arrays["true_audio_original"] = original.true_audio
    return arrays


def _source(features: Path, annotations: Path, layout: Layout, dtype: str, splits: Sequence[str]) -> dict[str, Any]:
    """What a bank is made of, for its manifest."""
    names = [WEAK_FILES[split] for split in splits] + [AUDIO_FILE, ORIGINAL_AUDIO_FILE, VISUAL_FILE]
    files = [file for name in names if (file := annotations / name).is_file()]
    return {
        "layout": layout.name,
        "dtype": dtype,
        "splits": list(splits),
        "annotations": {file.name: {"sha256": sha256(file), "edition": identify(file)} for file in files},
        "folders": {"features": str(features.resolve()), "annotations": str(annotations.resolve())},
    }


def _reuse(folder: Path, wanted: Manifest, skip_missing: bool) -> FeatureBank:
    """The finished bank, if it is what would be built."""
    bank = FeatureBank.open(folder)
    then, now = _identity(bank.manifest), _identity(wanted)
    if different := [key for key in now if then.get(key) != now[key]]:
        details = "; ".join(f"{key} {then.get(key)!r} then, {now[key]!r} now" for key in different)
        raise UserError(
            f"{folder} holds a bank made of something else: {details}. Choose another folder, or remove this one."
        )
    skipped = sum(entry.skipped for entry in bank.manifest.splits.values())
    if skipped and not skip_missing:
        raise UserError(
            f"The bank {folder} was prepared without {skipped} videos whose files were missing. Remove it to "
            f"prepare all of them, or accept it with --skip-missing (in a configuration: data.bank.skip_missing=true)."
        )
    return bank


def _identity(manifest: Manifest) -> dict[str, Any]:
    """What must agree for two banks to be made of the same."""
    source = {key: manifest.source.get(key) for key in ("layout", "dtype", "splits", "annotations", TOKENS)}
    features = manifest.source.get("folders", {}).get("features")
    names = {"kind": manifest.kind, "classes": manifest.classes, "num_segments": manifest.num_segments}
    return {**names, **source, "features": features}
