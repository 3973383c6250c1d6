"""Which files of a layout folder there are, and which of them the annotated videos need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmcse.data.layouts import Layout, PseudoLabels, Stream, files_by_id
from mmcse.errors import MissingFileError

Listings = Mapping[str, Mapping[str, Path]]
"""The files of every stream, by video id."""

SAMPLE = 16
"""Files whose headers are looked at to learn the shape that a stream has."""


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split that will be packed."""

    split: str
    rows: np.ndarray
    """Positions in the split of the videos that have all their files."""
    skipped: tuple[str, ...]
    """Ids of the others."""
    files: tuple[tuple[Stream | PseudoLabels, tuple[Path, ...]], ...]
    """Per stream, in the order of `rows`."""


def list_streams(features: Path, layout: Layout) -> Listings:
    """The files of every stream, each folder scanned once. Pseudo labels may have no folder.

    Raises:
        MissingFileError: folders of features are not there.
    """
    absent = [stream.folder for stream in layout.features if not (features / stream.folder).is_dir()]
    if absent:
        raise MissingFileError(
            f"{features} is not a folder in layout {layout.name!r}: it has no {', '.join(absent)}. Expected "
            f"{', '.join(f'{stream.folder}/ ({stream.name})' for stream in layout.streams)}."
        )
    folders = {stream.name: features / stream.folder for stream in layout.streams}
    return {name: files_by_id(folder) if folder.is_dir() else {} for name, folder in folders.items()}


def needs(stream: Stream | PseudoLabels, listing: Mapping[str, Path], ids: Iterable[str]) -> bool:
    """Whether the videos of a split need files of a stream: pseudo labels are for all of them or for none."""
    return isinstance(stream, Stream) or any(video in listing for video in ids)


def find_files(
    features: Path, layout: Layout, ids_of: Mapping[str, Sequence[str]], skip_missing: bool
) -> list[SplitFiles]:
    """The files of every split.

    Args:
        features: folder in the layout.
        layout: which one.
        ids_of: the video ids of every split, in order.
        skip_missing: leave out the videos that lack a file.

    Raises:
        MissingFileError: folders are missing, or files and they are not to be skipped, or a split has no video left.
    """
    listings = list_streams(features, layout)
    missing = {
        (stream.name, split): [video for video in ids if video not in listings[stream.name]]
        for split, ids in ids_of.items()
        for stream in layout.streams
        if needs(stream, listings[stream.name], ids)
    }
    if any(missing.values()) and not skip_missing:
        raise MissingFileError(_missing_text(features, layout, missing))
    found = []
    for split, ids in ids_of.items():
        streams = [stream for stream in layout.streams if (stream.name, split) in missing]
        lacking = {video for stream in streams for video in missing[stream.name, split]}
        rows = [row for row, video in enumerate(ids) if video not in lacking]
        if not rows:
            raise MissingFileError(f"No video of split {split!r} has all of its files in {features}.")
        files = tuple((stream, tuple(listings[stream.name][ids[row]] for row in rows)) for stream in streams)
        found.append(SplitFiles(split, np.array(rows), tuple(v for v in ids if v in lacking), files))
    return found


def stream_shapes(
    layout: Layout, found: Iterable[SplitFiles], num_segments: int, num_classes: int
) -> dict[str, tuple[int, int]]:
    """The shape that the files of every stream should have, judged by the headers of a few.

    Raises:
        UserError: none of the few can be used.
    """
    shapes = {stream.name: (num_segments, num_classes) for stream in layout.pseudo_labels}
    paths_of = {stream.name: [] for stream in layout.features}
    for split in found:
        for stream, paths in split.files:
            paths_of.get(stream.name, []).extend(paths)
    for stream in layout.features:
        shapes[stream.name] = stream.usual_shape(sample(paths_of[stream.name]), num_segments)
    return shapes


def sample(paths: Sequence[Path]) -> Sequence[Path]:
    """A few of the files, from all over."""
    return paths[:: max(1, len(paths) // SAMPLE)]


def _missing_text(features: Path, layout: Layout, missing: Mapping[tuple[str, str], Sequence[str]]) -> str:
    lines = []
    for stream in layout.streams:
        ids = [video for (name, _), videos in missing.items() if name == stream.name for video in videos]
        if ids:
            lines.append(f"{stream.folder} lacks {len(ids)}: {', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}")
    videos = {video for ids in missing.values() for video in ids}
    return (
        f"{len(videos)} annotated videos lack files in {features}. {'; '.join(lines)}. Add the files, named "
        f"<video id>.npy (`mmcse data check` lists them all), or go on without these videos with --skip-missing "
        f"(in a configuration: data.bank.skip_missing=true)."
    )
