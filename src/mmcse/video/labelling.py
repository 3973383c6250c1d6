"""Videos and weak labels to pseudo labels on disk: what `mmcse pseudo-label` does.

    <out>/CLAP/segment_embeddings/<id>.npy      (T, 512) what CLAP hears in the segments
    <out>/CLIP/segment_embeddings/<id>.npy      (T, 768) what CLIP sees in them
    <out>/CLAP/segment_pseudo_labels/<id>.npy   (T, K) 0/1; likewise CLIP/segment_pseudo_labels
    <out>/pseudo_labels.json                    recipe, and quality where segments are annotated

Embeddings take long and do not depend on the recipe: they are kept, and another recipe needs no video any more.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmcse.data.annotations import WEAK_FILES, Annotations, read_annotations
from mmcse.data.layouts import VALOR, PseudoLabels, Stream
from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write, write_json
from mmcse.video.decode import Clip, clips
from mmcse.video.encoders.base import fingerprint
from mmcse.video.encoders.clap import CLAP
from mmcse.video.encoders.clip import CLIP
from mmcse.video.extract import require_same
from mmcse.video.extractor import SIZE
from mmcse.video.pseudo_labels import ByModality, best_thresholds, pseudo_labels, quality, text_logits
from mmcse.video.recipe import Recipe

STREAMS = (Stream("audio", "CLAP/segment_embeddings", 512), Stream("visual", "CLIP/segment_embeddings", 768))
REPORT = "pseudo_labels.json"
VALIDATION = "val"
"""The split that thresholds are chosen on, never another."""


class SegmentEmbeddings(NamedTuple):
    """What the teachers make of a window of T segments."""

    start: float
    """Where it begins, in seconds."""
    audio: np.ndarray
    """(T, 512) float32."""
    visual: np.ndarray
    """(T, 768) float32."""


class SegmentEmbedder:
    """The teachers, CLAP and CLIP, as `extract_features` takes an extractor: windows in, embeddings of segments out.

    Args:
        weights: folder with the weights of both (default: the hub's cache).
        window: T, seconds of a window.
        batch_size: windows that are encoded together.
        **options: device, dtype and offline, as the encoders take them.

    Raises:
        MissingFileError: weights are missing and cannot be downloaded.
        UserError: an option cannot be used, or a library is missing.
    """

    report_name = "segment_embeddings.json"
    streams = STREAMS

    def __init__(self, weights: Path | None = None, *, window: int = 10, batch_size: int = 4, **options: Any) -> None:
        self.window, self.batch_size = window, batch_size
        self.audio, self.visual = CLAP.load(weights, **options), CLIP.load(weights, **options)

    @property
    def settings(self) -> dict[str, Any]:
        """What the embeddings depend on besides the videos."""
        networks = {teacher.name: fingerprint(teacher.network) for teacher in (self.audio, self.visual)}
        return {"window": self.window, "encoders": networks}

    def clips(self, path: Path | str) -> Iterator[Clip]:
        """The windows of a video."""
        return clips(path, window=self.window, sample_rates=[self.audio.sample_rate], size=SIZE)

    def encode(self, windows: Sequence[Clip]) -> list[SegmentEmbeddings]:
        """The embeddings of windows; zeros, which fit no sentence, where a video lacks the track."""
        heard, seen = self.audio.segment_embeddings(windows), self.visual.encode(windows)
        return [
            SegmentEmbeddings(clip.start, audio * clip.has_audio, visual * clip.has_visual)
            for clip, audio, visual in zip(windows, heard, seen, strict=True)
        ]


@dataclass(frozen=True)
class LabelledSplit:
    """A split of the annotations with logits of its segments. Shapes: N videos, T segments, K classes."""

    labels: Annotations
    logits: ByModality
    """(N, T, K) each."""

    @property
    def truth(self) -> ByModality | None:
        """(N, T, K) each, where the split is annotated densely."""
        audio, visual = self.labels.true_audio, self.labels.true_visual
        return None if audio is None or visual is None else ByModality(audio, visual)

    def marked(self, recipe: Recipe) -> ByModality:
        """The pseudo labels (N, T, K) by a recipe."""
        asked = (recipe.audio, recipe.visual)
        return ByModality(
            *(pseudo_labels(z, q.thresholds, self.labels.weak) for z, q in zip(self.logits, asked, strict=True))
        )


def read_splits(
    annotations: Path, recipe: Recipe, splits: Sequence[str] | None = None, num_segments: int = 10
) -> list[Annotations]:
    """The labels of the splits that are wanted, or else of those whose weak-label file is there.

    Raises:
        MissingFileError: there is no weak-label file.
        UserError: a file is not as expected, or names a class that the recipe lacks.
    """
    found = splits or [split for split, file in WEAK_FILES.items() if (annotations / file).is_file()]
    if not found:
        raise MissingFileError(f"There is none of {', '.join(WEAK_FILES.values())} in {annotations}.")
    return [read_annotations(annotations, s, classes=recipe.classes, num_segments=num_segments) for s in found]


def segment_logits(
    folder: Path,
    splits: Sequence[Annotations],
    recipe: Recipe,
    teachers: SegmentEmbedder,
    *,
    skip_missing: bool = False,
) -> list[LabelledSplit]:
    """Compare the stored embeddings of all videos with the sentences of a recipe.

    Args:
        folder: where `extract_features` stored the embeddings.
        splits: N videos each.
        recipe: K classes.
        teachers: the networks that made the embeddings.
        skip_missing: leave out the videos that have no embeddings.

    Raises:
        MissingFileError: videos lack their embeddings, all are counted; or a split has no video left.
        DamagedFileError: embeddings cannot be read, or are not those of T segments.
        UserError: the embeddings were made with other weights or windows.
    """
    require_same(folder / teachers.report_name, teachers.settings)
    stored = {video for labels in splits for video in labels.ids if is_stored(folder, video)}
    lacking = [video for labels in splits for video in labels.ids if video not in stored]
    if lacking and not (skip_missing and all(stored & set(labels.ids) for labels in splits)):
        raise MissingFileError(
            f"{len(lacking)} of {len(lacking) + len(stored)} annotated videos have no embeddings in {folder}: "
            f"{', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}. Name their files (<id>.mp4 or the like) "
            "in the command, or go on without these videos with --skip-missing, if each split has others."
        )
    splits = [_only(stored, labels) for labels in splits]
    found = []
    for stream, teacher, asked in zip(
        STREAMS, (teachers.audio, teachers.visual), (recipe.audio, recipe.visual), strict=True
    ):
        prompts, scale = teacher.text_embeddings(asked.prompts), teacher.logit_scale
        shape = (teachers.window, prompts.shape[1])
        found.append([
            np.stack([text_logits(stream.read(file_of(folder, stream, v), shape), prompts, scale) for v in labels.ids])
            for labels in splits
        ])  # fmt: skip
    return [LabelledSplit(labels, ByModality(*logits)) for labels, *logits in zip(splits, *found, strict=True)]


def write_labels(folder: Path, recipe: Recipe, splits: Sequence[LabelledSplit]) -> dict[str, Any]:
    """Write the pseudo labels of all videos, and the report.

    Returns:
        What the report holds: the recipe, and for each split the number of videos, how many cells (segment and class)
        are marked in audio and visual, and, where it is annotated, `quality`.
    """
    report: dict[str, Any] = {"recipe": asdict(recipe), "splits": {}}
    for split in splits:
        marked = split.marked(recipe)
        for stream, array in zip(VALOR.pseudo_labels, marked, strict=True):
            for video, of_video in zip(split.labels.ids, array, strict=True):
                _store(file_of(folder, stream, video), of_video.astype(np.uint8))
        report["splits"][split.labels.split] = describe(split, recipe)
    write_json(folder / REPORT, report)
    return report


def describe(split: LabelledSplit, recipe: Recipe) -> dict[str, Any]:
    """How much is marked in a split, and how well where it is annotated."""
    marked = split.marked(recipe)
    found: dict[str, Any] = {
        "videos": len(split.labels.names),
        "marked": {name: int(array.sum()) for name, array in marked._asdict().items()},
    }
    if split.truth is not None:
        found["quality"] = quality(marked, split.truth)
    return found


def require_validation(splits: Sequence[Annotations]) -> None:
    """Check, before the work begins, that thresholds can be chosen.

    Raises:
        UserError: no split is the validation's.
    """
    if all(labels.split != VALIDATION for labels in splits):
        raise UserError(
            f"Thresholds are chosen on annotated validation videos, and {WEAK_FILES[VALIDATION]} is not among the "
            f"splits ({', '.join(labels.split for labels in splits)})."
        )


def calibrate(recipe: Recipe, splits: Sequence[LabelledSplit]) -> Recipe:
    """The recipe with the thresholds that are best on the validation split (see `best_thresholds`), whatever else is
    there.

    Raises:
        UserError: no split is the validation's.
    """
    require_validation([split.labels for split in splits])
    [validation] = [split for split in splits if split.labels.split == VALIDATION]
    assert validation.truth is not None  # read_annotations gives it for this split
    chosen = {
        name: best_thresholds(logits, validation.labels.weak, true, getattr(recipe, name).thresholds)
        for name, logits, true in zip(ByModality._fields, validation.logits, validation.truth, strict=True)
    }
    return recipe.with_thresholds(**chosen)


def _only(videos: Collection[str], labels: Annotations) -> Annotations:
    """The labels of some of the videos."""
    rows = [row for row, video in enumerate(labels.ids) if video in videos]
    arrays = {name: getattr(labels, name) for name in ("weak", "true_audio", "true_visual")}
    names = tuple(labels.names[row] for row in rows)
    return replace(labels, names=names, **{n: None if array is None else array[rows] for n, array in arrays.items()})


def is_stored(folder: Path, video: str) -> bool:
    """Whether a folder has both embeddings of a video."""
    return all(file_of(folder, stream, video).is_file() for stream in STREAMS)


def file_of(folder: Path, stream: Stream | PseudoLabels, video: str) -> Path:
    """The file of a video's embeddings or labels."""
    return folder / stream.folder / f"{video}.npy"


def _store(file: Path, array: np.ndarray) -> None:
    with atomic_write(file) as handle:
        np.save(handle, array, allow_pickle=False)
