"""The manifest of a feature bank: what it was made of, and what its files are, down to checksums."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np

from mmcse.data.annotations import sha256
from mmcse.data.npy import read_header
from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.files import write_json

FORMAT = 1
Kind = Literal["real", "simulated", "fixture"]
"""What features are: of LLP or another real data set, of SimLLP, or made up for a test."""
KINDS: tuple[Kind, ...] = get_args(Kind)
MANIFEST = "manifest.json"

FEATURES = ("audio", "visual", "motion")
PSEUDO_LABELS = ("pseudo_audio", "pseudo_visual")
TOKENS = "tokens"
"""Key of the source; "stored" there means that features have tokens of their own instead of T segments."""
REQUIRED = ("ids", "weak", *FEATURES)


@dataclass(frozen=True)
class ArrayEntry:
    """One .npy file of a bank."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


@dataclass(frozen=True)
class SplitEntry:
    """One split of a bank: N videos, how many were left out, and its arrays by name."""

    count: int
    skipped: int
    arrays: Mapping[str, ArrayEntry]

    @property
    def widths(self) -> tuple[int, ...]:
        """C of each of `FEATURES`."""
        return tuple(self.arrays[name].shape[-1] for name in FEATURES)

    @classmethod
    def describe(cls, folder: Path, skipped: int) -> Self:
        """The entry for the .npy files in a split's folder; reads each to its end for the checksum."""
        arrays = {}
        for file in sorted(folder.glob("*.npy")):
            header = read_header(file)
            arrays[file.stem] = ArrayEntry(header.shape, header.dtype.str, sha256(file))
        return cls(arrays["ids"].shape[0], skipped, arrays)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The entry from its form in JSON, checked for having every required array."""
        arrays = {
            name: ArrayEntry(tuple(map(int, entry["shape"])), np.dtype(entry["dtype"]).str, str(entry["sha256"]))
            for name, entry in data["arrays"].items()
        }
        if odd := [name for name in arrays if not name.isidentifier()]:  # each names a file
            raise ValueError(f"{odd[0]!r} is no name of an array")
        if missing := [name for name in REQUIRED if name not in arrays]:
            raise ValueError(f"it does not list {', '.join(missing)}")
        if flat := [name for name in FEATURES if len(arrays[name].shape) != 3]:
            raise ValueError(f"{flat[0]} has shape {arrays[flat[0]].shape}, expected (N, T, C)")
        return cls(int(data["count"]), int(data["skipped"]), arrays)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds."""

    kind: Kind
    source: Mapping[str, Any]
    classes: tuple[str, ...]
    num_segments: int
    splits: Mapping[str, SplitEntry] = field(default_factory=dict)
    """Empty while the bank is being built."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of the bank in a folder, finished or not.

        Raises:
            MissingFileError: there is none.
            UserError: it is damaged or of another format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            unfinished = folder.with_name(f"{folder.name}.partial").is_dir()
            hint = " It was not finished: run the command that builds it again, which goes on." if unfinished else ""
            raise MissingFileError(f"There is no feature bank at {folder}: it has no {MANIFEST}.{hint}")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, expected {FORMAT}")
            if data["kind"] not in KINDS:
                raise ValueError(f"kind {data['kind']!r}, expected one of {', '.join(KINDS)}")
            if odd := [split for split in data["splits"] if not split.isidentifier()]:  # each names a folder
                raise ValueError(f"{odd[0]!r} is no name of a split")
            return cls(
                data["kind"],
                dict(data["source"]),
                tuple(map(str, data["classes"])),
                int(data["num_segments"]),
                {split: SplitEntry.from_json(entry) for split, entry in data["splits"].items()},
            )
        except Exception as error:  # any value may stand in any place
            reason = f"it has no {error}" if isinstance(error, KeyError) else one_line(error)
            raise UserError(f"{path} is damaged or of another version ({reason}). Build the bank again.") from None

    def write(self, folder: Path) -> None:
        """Put the manifest into the folder of a bank, completely or not at all."""
        write_json(folder / MANIFEST, {"format": FORMAT, **asdict(self)})

    @property
    def digest(self) -> str:
        """sha256 over the manifest without the paths in `source["folders"]`: equal for equal contents."""
        data = asdict(self)
        data["source"].pop("folders", None)
        return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def expected_shape(self, split: str, name: str) -> tuple[int, ...]:
        """The shape that an array must have, from the counts of videos, segments and classes."""
        N, T, K = self.splits[split].count, self.num_segments, len(self.classes)
        if name in FEATURES:
            _, tokens, width = self.splits[split].arrays[name].shape
            return (N, tokens if TOKENS in self.source else T, width)
        return {"ids": (N,), "weak": (N, K)}.get(name, (N, T, K))

    def check_headers(self, folder: Path) -> None:
        """Check that every array is there with the size, shape and dtype it should have. Reads no data.

        Raises:
            MissingFileError: a file is gone.
            UserError: a file is not what the manifest says, or the manifest contradicts itself.
        """
        for split, entry in self.splits.items():
            for name in entry.arrays:
                self.check_header(folder, split, name)
        widths = {split: entry.widths for split, entry in self.splits.items()}
        if len(set(widths.values())) != 1:
            raise UserError(
                f"{folder / MANIFEST}: expected splits whose features ({', '.join(FEATURES)}) have the same widths, "
                f"found {widths or 'no splits'}. Build the bank again."
            )

    def check_header(self, folder: Path, split: str, name: str) -> None:
        """Check one array; raises as `check_headers`."""
        path, entry = folder / split / f"{name}.npy", self.splits[split].arrays[name]
        if not path.is_file():
            raise MissingFileError(f"{path} is gone, but {MANIFEST} lists it. Restore it or build the bank again.")
        header, expected = read_header(path), self.expected_shape(split, name)
        if (header.shape, header.dtype.str) != (entry.shape, entry.dtype) or header.shape != expected:
            raise UserError(
                f"{path} is {header.dtype} of shape {header.shape}; {MANIFEST} says {np.dtype(entry.dtype)} of shape "
                f"{entry.shape}, and its counts ask for {expected}. Build the bank again."
            )
