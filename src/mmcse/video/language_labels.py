"""LSLD's segment labels for the training videos of a bank: what `mmcse segment-labels` does.

Segments are compared with texts in the spaces of CLAP and CLIP. Features of a bank can be brought there: CLIP's lie in
the space of its texts, CLAP's lead to it by a projection. Or the embeddings are taken that `mmcse pseudo-label` keeps;
for these CLAP heard every second by itself, as LSLD has it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcse.data.bank import BankSplit, FeatureBank
from mmcse.data.npz import some
from mmcse.errors import MissingFileError, UserError
from mmcse.models.frontend import to_segments
from mmcse.objectives.lsld import MAX_EVENTS, language_labels
from mmcse.progress import progress_bar
from mmcse.video.extract import different_settings
from mmcse.video.labelling import STREAMS, SegmentEmbedder, file_of, is_stored
from mmcse.video.texts import TextEmbeddings
from mmcse.vocabulary import LLP_CLASSES, LSLD_PHRASES, display_name, near_miss, read_vocabulary

CHUNK = 64
"""Videos whose frames are in memory at a time."""

log = logging.getLogger(__name__)


class LanguageLabels(NamedTuple):
    """Labels of the segments of N training videos."""

    audio: np.ndarray
    """(N, T, K) float32, 0 or 1."""
    visual: np.ndarray
    """(N, T, K) float32 in [0, 1]."""
    made: dict[str, Any]
    """How they were made: neither paths nor times, so that it is the same for equal labels."""

    def lines(self, weak: np.ndarray) -> list[str]:
        """What is in them, for people; `weak` are the (N, K) labels of the videos."""
        N, T, _ = self.audio.shape
        lines = [f"{N:,} training videos; their weak labels, in every segment, are {int(weak.sum()) * T:,} labels"]
        for name, labels in (("audio", self.audio), ("visual", self.visual)):
            certain, soft = int((labels == 1).sum()), int(((labels > 0) & (labels < 1)).sum())
            lines.append(f"{name}: {certain:,} labels of 1" + (f", {soft:,} between 0 and 1" if soft else ""))
        if many := int((weak.sum(axis=1) > MAX_EVENTS).sum()):
            lines.append(
                f"{many:,} videos have more than {MAX_EVENTS} events, of which no prompt chooses: they keep all"
            )
        return lines


def find_phrases(classes: Sequence[str], file: Path | None = None) -> tuple[str, ...]:
    """How prompts name the classes.

    Args:
        classes: K names in order.
        file: a yaml file with a phrase for every class, `classes: {Dog: a barking dog, ...}`. Default: LSLD's phrases
            for the classes of LLP, and other classes by their own names.

    Raises:
        MissingFileError: there is no such file.
        UserError: it does not hold a phrase for each class.
    """
    if file is None:
        return LSLD_PHRASES if tuple(classes) == LLP_CLASSES else tuple(map(display_name, classes))
    phrases = read_vocabulary(file)
    if unknown := [name for name in phrases if name not in classes]:
        raise UserError(f"{file}: the data have no class {unknown[0]!r}.{near_miss(unknown[0], classes)}")
    for name in classes:
        if not isinstance(phrases.get(name), str) or not phrases[name].strip():
            raise UserError(f"{file} has no phrase for {name!r}. Expected a line such as `{name}: words for it`.")
    return tuple(phrases[name] for name in classes)


def label_segments(
    bank: FeatureBank,
    texts: TextEmbeddings,
    phrases: Sequence[str],
    *,
    embeddings: Path | None = None,
    soft: bool = True,
    event_ratio: float = 4.0,
    noise_ratio: float = 0.4,
    progress: bool = True,
) -> LanguageLabels:
    """Label the segments of a bank's training videos (`language_labels`).

    Args:
        bank: N training videos of T segments with weak labels of K classes.
        texts: all that `required_texts` names.
        phrases: K names of the classes, as a prompt words them.
        embeddings: folder in which `mmcse pseudo-label` keeps embeddings; default: the features of the bank.
        soft: whether doubtful visual labels are softened.
        event_ratio: what the softened label of an event is, in multiples of the cosine with the class's name.
        noise_ratio: the same for a segment without the event.
        progress: show how far it is, on standard error.

    Raises:
        MissingFileError: videos have no embeddings.
        UserError: a ratio is not positive; the segments are not in the space of the texts; or embeddings are damaged.
    """
    check_ratios(event_ratio, noise_ratio)
    if bank.kind != "real":
        kind = bank.kind.upper()
        log.warning("WARNING: the features of %s are %s, and texts tell nothing about them.", bank.folder, kind)
    videos = bank.split("train")
    if embeddings is None:
        audio, visual = _features(videos, bank.num_segments)
        audio = _projected(audio, texts)
    else:
        audio, visual = _stored(embeddings, videos.ids, bank.num_segments, texts, progress)
    for name, found, space in (("audio", audio, texts.audio), ("visual", visual, texts.visual)):
        if found.shape[-1] != (width := space.embeddings.shape[1]):
            raise UserError(
                f"The {name} features of {bank.folder} have {found.shape[-1]} dimensions, the embeddings of texts "
                f"{width}. Segments and texts are compared in one space: take a bank of CLAP and CLIP features (layout "
                "valor), or with --embeddings what `mmcse pseudo-label` keeps. The labels serve any bank of the same "
                "videos."
            )
    weak = torch.from_numpy(videos.arrays["weak"].astype(np.float32))
    of_audio, of_visual = language_labels(
        weak, audio, visual, phrases, bank.classes, texts.audio, texts.visual,
        soft=soft, event_ratio=event_ratio, noise_ratio=noise_ratio,
    )  # fmt: skip
    made = {
        "method": "LSLD",
        "data_kind": bank.kind,
        "bank": bank.digest,
        "segments": "features of the bank" if embeddings is None else "embeddings",
        "encoders": texts.encoders,
        "phrases": list(phrases),
        "event_ratio": event_ratio if soft else None,
        "noise_ratio": noise_ratio if soft else None,
    }
    return LanguageLabels(of_audio.numpy(), of_visual.numpy(), made)


def check_ratios(event_ratio: float, noise_ratio: float) -> None:
    """Check the ratios of soft labels.

    Raises:
        UserError: one is not a positive number.
    """
    for name, ratio in (("event", event_ratio), ("noise", noise_ratio)):
        if not 0 < ratio < float("inf"):
            raise UserError(f"The {name} ratio is {ratio}; expected a positive number.")


def require_embeddings(folder: Path, ids: Sequence[str]) -> None:
    """Check, before the work begins, that embeddings of all videos are there.

    Raises:
        MissingFileError: some are not; they are counted.
    """
    if lacking := [video for video in ids if not is_stored(folder, video)]:
        raise MissingFileError(
            f"{len(lacking)} of {len(ids)} training videos have no embeddings in {folder}: {some(lacking)}. "
            "`mmcse pseudo-label VIDEOS --out DIR` makes them."
        )


def _features(videos: BankSplit, num_segments: int) -> tuple[Tensor, Tensor]:
    """The features of a bank's videos (N, T, C), where it holds more tokens than segments too."""
    found = [
        (to_segments(batch.audio, "clap_map", num_segments), to_segments(batch.visual, "frames", num_segments))
        for batch in videos.batches(CHUNK)
    ]
    audio, visual = (torch.cat(stream) for stream in zip(*found, strict=True))
    return audio, visual


def _projected(audio: Tensor, texts: TextEmbeddings) -> Tensor:
    """CLAP's features in the space of its texts; others, and those that are there already, as they are."""
    if texts.projection is None or audio.shape[-1] == texts.audio.embeddings.shape[1]:
        return audio
    return texts.projection(audio) if audio.shape[-1] == texts.projection.weight_1.shape[1] else audio


def _stored(
    folder: Path, ids: Sequence[str], num_segments: int, texts: TextEmbeddings, progress: bool
) -> tuple[Tensor, Tensor]:
    """The embeddings that `mmcse pseudo-label` keeps of videos, (N, T, E) each."""
    require_embeddings(folder, ids)
    made = {"window": num_segments} | ({"encoders": texts.encoders} if texts.encoders else {})
    if different := different_settings(folder / SegmentEmbedder.report_name, made):
        raise UserError(
            f"The embeddings in {folder} were made with other {' and '.join(different)} than the texts or the bank. "
            "Use texts of the same encoders, and a bank of as many segments."
        )
    found = []
    with progress_bar(total=len(STREAMS) * len(ids), description="reading", unit="files", enabled=progress) as bar:
        for stream, space in zip(STREAMS, (texts.audio, texts.visual), strict=True):
            segments = np.empty((len(ids), num_segments, space.embeddings.shape[1]), np.float32)
            for row, video in enumerate(ids):
                segments[row] = stream.read(file_of(folder, stream, video), segments.shape[1:])
                bar.update(1)
            found.append(torch.from_numpy(segments))
    audio, visual = found
    return audio, visual
