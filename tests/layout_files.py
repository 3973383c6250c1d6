"""Small layout folders with random features and labels, for tests that need LLP's files on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmcse.data.layouts import layout_named
from mmcse.vocabulary import LLP_CLASSES

VIDEOS = {
    split: tuple(f"{split[:2]}-video_{number:02d}_{10 * number}_{10 * number + 10}" for number in range(count))
    for split, count in {"train": 7, "val": 3, "test": 4}.items()
}
WIDTHS = {"audio": 6, "visual": 5, "motion": 4}
WEAK_FILES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}


class LayoutFolders(NamedTuple):
    features: Path
    annotations: Path


def write_layout(
    folder: Path,
    layout: str = "valor",
    *,
    videos: Mapping[str, Sequence[str]] = VIDEOS,
    widths: Mapping[str, int] = WIDTHS,
    classes: Sequence[str] = LLP_CLASSES,
    num_segments: int = 10,
    seed: int = 0,
) -> LayoutFolders:
    """Write `folder/features` in a layout and `folder/annotations`; names of videos are `<11 characters>_<a>_<b>`."""
    rng = np.random.default_rng(seed)
    folders = LayoutFolders(folder / "features", folder / "annotations")
    folders.annotations.mkdir(parents=True)
    streams = layout_named(layout)
    for stream in streams.streams:
        (folders.features / stream.folder).mkdir(parents=True)
    dense = {"audio": [], "visual": []}
    for split, names in videos.items():
        weak = []
        for name in names:
            chosen = sorted(rng.choice(len(classes), size=int(rng.integers(1, 3)), replace=False).tolist())
            weak.append((name, ",".join(classes[c] for c in chosen)))
            for stream in streams.features:
                shape = (stream.tokens or num_segments, widths[stream.name])
                np.save(folders.features / stream.folder / name[:11], rng.standard_normal(shape, dtype=np.float32))
            for labels in streams.pseudo_labels:
                on = np.zeros((num_segments, len(classes)), dtype=np.int64)
                on[:, chosen] = rng.integers(0, 2, (num_segments, len(chosen)))
                np.save(folders.features / labels.folder / name[:11], on)
            if split != "train":
                for rows in dense.values():
                    onset, offset = sorted(rng.choice(num_segments + 1, size=2, replace=False).tolist())
                    rows.append((name, onset, offset, classes[chosen[0]]))
        write_table(folders.annotations / WEAK_FILES[split], ("filename", "event_labels"), weak)
    for modality, rows in dense.items():
        header = ("filename", "onset", "offset", "event_labels")
        write_table(folders.annotations / f"AVVP_eval_{modality}.csv", header, rows)
    return folders


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A tab-separated file as LLP's."""
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in (header, *rows)), encoding="utf-8")
