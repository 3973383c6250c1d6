"""The folder layouts in which LLP's features are passed around, and how a file of each stream is read.

Every stream is a folder with one .npy file per video, named by the video's YouTube id.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcse.data.npy import DamagedFileError, read_array, read_header
from mmcse.errors import MissingFileError, UserError
from mmcse.resampling import Resampling
from mmcse.vocabulary import near_miss


@dataclass(frozen=True)
class Stream:
    """One kind of feature of a layout: N tokens of width C per video."""

    name: str
    """Name of the array in a bank: audio, visual or motion."""
    folder: str
    """Where its files are, below the folder of features."""
    width: int
    """C of the extractor that the layout is known for; other widths work as long as all files agree."""
    tokens: int | None = None
    """N of the files, where it is not T; T is always accepted."""
    resampling: Resampling = "frames"
    """How N tokens become T segments."""

    def read(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """The features (N, C) of one video, in the file's own floating dtype.

        Raises:
            DamagedFileError: they cannot be read, are not of this shape, not floating point, or not finite.
        """
        features = _read(path, shape)
        if not np.isfinite(features).all():
            count = features.size - np.isfinite(features).sum()
            raise DamagedFileError(path, "not finite", f"{count} of {features.size} values are NaN or infinite")
        return features

    def usual_shape(self, files: Iterable[Path], num_segments: int) -> tuple[int, int]:
        """The shape (N, C) that most of the files have, among those that can be read and can be of this stream.

        Raises:
            UserError: there is no such file.
        """
        counts: Counter[tuple[int, int]] = Counter()
        seen, damage = set(), None
        for path in files:
            try:
                shape = read_header(path).shape
            except DamagedFileError as error:
                damage = damage or error
                continue
            seen.add(shape)
            if len(shape) == 2 and shape[0] in (num_segments, self.tokens) and shape[1] > 0:
                counts[shape] += 1
        if counts:
            return counts.most_common(1)[0][0]
        tokens = " or ".join(str(n) for n in (self.tokens, num_segments) if n)
        raise UserError(
            f"No file of the {self.name} stream in {self.folder} can be used: expected arrays of shape "
            f"({tokens}, C), found {', '.join(map(str, sorted(seen))) or damage or 'no file'}."
        )


@dataclass(frozen=True)
class PseudoLabels:
    """Segment pseudo labels (T, K) of a layout, 0 or 1. A split may do without them altogether."""

    name: str
    """Name of the array in a bank: pseudo_audio or pseudo_visual."""
    folder: str
    """Where its files are, below the folder of features."""

    def read(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """The labels (T, K) of one video as uint8.

        Raises:
            DamagedFileError: they cannot be read, are not of this shape, or not all 0 or 1.
        """
        labels = _read(path, shape, kinds="biuf")
        if not np.isin(labels, (0, 1)).all():
            raise DamagedFileError(path, "not 0 or 1", f"it holds {np.unique(labels)[:5]}")
        return labels.astype(np.uint8)


@dataclass(frozen=True)
class Layout:
    """A folder of features as somebody publishes it."""

    name: str
    features: tuple[Stream, ...]
    pseudo_labels: tuple[PseudoLabels, ...]

    @property
    def streams(self) -> tuple[Stream | PseudoLabels, ...]:
        """All that is stored per video."""
        return (*self.features, *self.pseudo_labels)


_MOTION = Stream("motion", "feats/r2plus1d_18", 512)
_PSEUDO_LABELS = (
    PseudoLabels("pseudo_audio", "CLAP/segment_pseudo_labels"),
    PseudoLabels("pseudo_visual", "CLIP/segment_pseudo_labels"),
)

VALOR = Layout(
    "valor",
    (Stream("audio", "CLAP/features", 768, 64, "clap_map"), Stream("visual", "CLIP/features", 768), _MOTION),
    _PSEUDO_LABELS,
)
"""CLAP and CLIP features as published with VALOR."""

LLP = Layout(
    "llp",
    (Stream("audio", "feats/vggish", 128), Stream("visual", "feats/res152", 2048, 80, "frames"), _MOTION),
    _PSEUDO_LABELS,
)
"""VGGish and ResNet-152 features as published with LLP; pseudo labels as VALOR's."""

LAYOUTS = (VALOR, LLP)


def layout_named(name: str | Layout) -> Layout:
    """The layout of that name; a layout of one's own passes through.

    Raises:
        UserError: there is none.
    """
    if isinstance(name, Layout):
        return name
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    names = [layout.name for layout in LAYOUTS]
    raise UserError(f"Unknown feature layout {name!r}.{near_miss(name, names)} Expected one of {', '.join(names)}.")


def files_by_id(folder: Path) -> dict[str, Path]:
    """The .npy files of a stream's folder by video id, from one scan of the folder.

    Raises:
        MissingFileError: there is no such folder.
        UserError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return {name[:-4]: folder / name for name in sorted(e.name for e in entries) if name.endswith(".npy")}
    except FileNotFoundError:
        raise MissingFileError(f"There is no folder {folder}.") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}.") from None


def _read(path: Path, shape: tuple[int, ...], kinds: str = "f") -> np.ndarray:
    """The array in a file, of a dtype among `kinds` and of that shape."""
    array = read_array(path)
    if array.dtype.kind not in kinds:
        expected = "floating-point numbers" if kinds == "f" else "numbers"
        raise DamagedFileError(path, "of a wrong dtype", f"found {array.dtype}, expected {expected}")
    if array.shape != shape:
        raise DamagedFileError(path, "misshapen", f"found {array.shape}, expected {shape}")
    return array
