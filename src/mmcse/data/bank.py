"""The feature bank: every split's features and labels packed into one memory-mapped array each.

    <bank>/manifest.json                  what the bank holds, where it is from, and checksums
    <bank>/<split>/audio.npy              (N, T, C) float32 or float16; likewise visual, motion; with tokens: stored
                                          as many tokens as the files had, for T
    <bank>/<split>/pseudo_audio.npy       (N, T, K) uint8, segment pseudo labels; likewise pseudo_visual
    <bank>/<split>/true_audio.npy         (N, T, K) uint8, dense truth where known; likewise true_visual
    <bank>/<split>/true_audio_original.npy  the same from the uncorrected file, where it was given
    <bank>/<split>/weak.npy               (N, K) uint8, video-level labels
    <bank>/<split>/ids.npy                (N,) strings

A bank is built in `<bank>.partial` and takes its name when it is complete and on the disk: what is called `<bank>` is
never half there.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from mmcse.batch import Batch
from mmcse.data.manifest import FEATURES, KINDS, MANIFEST, PSEUDO_LABELS, Kind, Manifest, SplitEntry
from mmcse.data.npy import ArrayAppender, map_array, read_array, read_rows, size_text, write_array, writing
from mmcse.errors import UserError
from mmcse.files import remove_unfinished, sync_folder


@dataclass(frozen=True)
class BankSplit:
    """One split of a bank.

    Pickles as the path of its folder, so that a worker process maps the files itself.
    """

    folder: Path
    ids: tuple[str, ...]
    """The N video ids."""
    arrays: Mapping[str, np.ndarray]
    """The arrays by name, read-only memory maps or in memory; `ids` is not among them."""
    in_memory: bool = False

    @classmethod
    def open(cls, folder: Path, names: Iterable[str], in_memory: bool = False) -> "BankSplit":
        """Open the named arrays of a split's folder, and its ids.

        Raises:
            DamagedFileError: one of the files is not the array it claims to be.
        """
        read = read_array if in_memory else map_array
        arrays = {name: read(folder / f"{name}.npy") for name in names if name != "ids"}
        return cls(folder, tuple(read_array(folder / "ids.npy").tolist()), arrays, in_memory)

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return BankSplit.open, (self.folder, tuple(self.arrays), self.in_memory)

    def gather(self, rows: np.ndarray, true_audio: str = "true_audio") -> Batch:
        """The videos at `rows` (B,), in that order, as float32.

        Args:
            rows: positions in the split; any order, repetitions allowed.
            true_audio: the array that becomes the batch's `true_audio`. The default may be absent (a split without
                truth), another one may not.

        Raises:
            UserError: the split has no array of that name.
            DamagedFileError: a file cannot be read any more: it shrank, or its drive went away.
        """
        if true_audio != "true_audio" and true_audio not in self.arrays:
            raise UserError(f"{self.folder} has no {true_audio!r}; it has: {', '.join(self.arrays)}.")
        rows = np.asarray(rows)
        names = {name: name for name in (*FEATURES, "weak", *PSEUDO_LABELS, "true_visual")} | {"true_audio": true_audio}
        tensors = {field: _floats(self.arrays[name], rows) for field, name in names.items() if name in self.arrays}
        return Batch(**tensors, ids=tuple(self.ids[row] for row in rows))

    def batches(self, size: int, rows: np.ndarray | None = None) -> Iterator[Batch]:
        """All videos in order, or those at `rows`, `size` at a time; the last batch may be smaller."""
        rows = np.arange(len(self)) if rows is None else rows
        return (self.gather(rows[start : start + size]) for start in range(0, len(rows), size))


class FeatureBank:
    """A finished bank, opened for reading.

    Attributes:
        folder: where it is.
        manifest: what it holds.
        kind: "real", "simulated" or "fixture".
        source: what it was made of; `source["folders"]`, if any, holds paths.
        classes: the vocabulary, K names in order.
        num_segments: T.
        digest: 64 hexadecimal digits that are equal for equal contents.
        splits: names of the splits.
        dims: width C of each stream of features.
    """

    def __init__(self, folder: Path, manifest: Manifest, splits: Mapping[str, BankSplit]) -> None:
        self.folder, self.manifest, self._splits = folder, manifest, splits
        self.kind: Kind = manifest.kind
        self.source = manifest.source
        self.classes, self.num_segments = manifest.classes, manifest.num_segments
        self.digest = manifest.digest
        self.splits = tuple(splits)
        self.dims = dict(zip(FEATURES, manifest.splits[self.splits[0]].widths, strict=True))

    @classmethod
    def open(cls, folder: Path | str, *, in_memory: bool = False) -> "FeatureBank":
        """Open a bank, checking the shape, dtype and size of every array, but not the checksums.

        Args:
            folder: the bank.
            in_memory: read the arrays now instead of mapping them.

        Raises:
            MissingFileError: there is no bank, or one of its files is gone.
            UserError: the files are not what the manifest says.
        """
        folder = Path(folder)
        manifest = Manifest.read(folder)
        manifest.check_headers(folder)
        splits = {
            split: BankSplit.open(folder / split, entry.arrays, in_memory) for split, entry in manifest.splits.items()
        }
        return cls(folder, manifest, splits)

    def split(self, name: str) -> BankSplit:
        """One split.

        Raises:
            UserError: the bank does not have it.
        """
        if name not in self._splits:
            raise UserError(f"The bank {self.folder} has no split {name!r}; it has: {', '.join(self.splits)}.")
        return self._splits[name]

    def __reduce__(self) -> tuple[Any, ...]:
        in_memory = any(split.in_memory for split in self._splits.values())
        return _reopen, (self.folder, in_memory)


class BankWriter:
    """Builds a bank; whoever uses it holds `lock_bank(folder)`.

    What an interrupted writer of the same kind, source, classes and T left in `<bank>.partial` is continued; leavings
    of another one are thrown away.

    Args:
        folder: the bank; must not exist, or be empty.
        kind: "real", "simulated" or "fixture".
        source: what the bank is made of, plain values; paths under "folders".
        classes: the vocabulary, K names in order.
        num_segments: T.

    Raises:
        UserError: the folder is taken or cannot be written.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        kind: Kind,
        source: Mapping[str, Any],
        classes: Sequence[str],
        num_segments: int,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, expected one of {KINDS}")
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        plain = json.loads(json.dumps(source))  # as it will be read back
        self._manifest = Manifest(kind, plain, tuple(classes), num_segments)
        with writing(self.partial, 0):
            self._claim()

    def require_space(self, num_bytes: int) -> None:
        """Check before the work begins that the disk will take the whole bank.

        Raises:
            UserError: it will not.
        """
        done = sum(file.stat().st_size for file in self.partial.rglob("*.npy"))
        free = shutil.disk_usage(self.partial).free
        if free < num_bytes - done:
            raise UserError(
                f"The bank {self.folder} needs {size_text(num_bytes - done)} of disk space, but only "
                f"{size_text(free)} are free there. Free some space, choose another folder, or use float16."
            )

    def put(self, split: str, name: str, array: np.ndarray) -> None:
        """Write a whole array of a split. Booleans become uint8.

        Raises:
            UserError: the disk is full.
        """
        array = np.asarray(array)
        write_array(self._file(split, name), array.astype(np.uint8) if array.dtype == np.bool_ else array)

    def appender(self, split: str, name: str, shape: tuple[int, ...], dtype: np.dtype | str) -> ArrayAppender:
        """An array of a split to be written row by row, from the row where an interrupted writer stopped."""
        return ArrayAppender(self._file(split, name), shape, dtype)

    def finish(self, skipped: Mapping[str, int] | None = None) -> FeatureBank:
        """Compute checksums, write the manifest, bring all of it to the disk and give the bank its name.

        Args:
            skipped: videos of each split that were left out.

        Raises:
            UserError: the arrays do not make a bank, or the disk is full.
        """
        skipped = skipped or {}
        splits = {
            folder.name: SplitEntry.describe(folder, skipped.get(folder.name, 0))
            for folder in sorted(self.partial.iterdir())
            if folder.is_dir()
        }
        manifest = replace(self._manifest, splits=splits)
        manifest.check_headers(self.partial)
        with writing(self.folder, 0):
            manifest.write(self.partial)
            for folder in (*(self.partial / split for split in splits), self.partial):
                sync_folder(folder)
            os.replace(self.partial, self.folder)
            sync_folder(self.folder.parent)
        return FeatureBank.open(self.folder)

    def _claim(self) -> None:
        """Make the partial folder ours; its manifest without splits marks what it is going to be."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(
                f"{self.folder} already holds something. Choose another folder for the bank, or remove this one."
            )
        if self.partial.exists() and any(self.partial.iterdir()):
            if not (self.partial / MANIFEST).exists():
                raise UserError(f"{self.partial} is in the way and was not left by mmcse. Move it elsewhere.")
            if replace(Manifest.read(self.partial), splits={}) != self._manifest:
                shutil.rmtree(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.partial)
        self._manifest.write(self.partial)

    def _file(self, split: str, name: str) -> Path:
        folder = self.partial / split
        with writing(folder, 0):
            folder.mkdir(exist_ok=True)
        return folder / f"{name}.npy"


@contextmanager
def lock_bank(folder: Path | str) -> Iterator[None]:
    """Hold a bank for oneself while it is looked for and built, so that two processes never build it twice."""
    folder = Path(folder)
    with writing(folder, 0):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _floats(array: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(read_rows(array, rows).astype(np.float32, copy=False))


def _reopen(folder: Path, in_memory: bool) -> FeatureBank:
    return FeatureBank.open(folder, in_memory=in_memory)
