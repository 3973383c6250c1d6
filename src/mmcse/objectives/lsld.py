"""The objective of LSLD (Fan et al., NeurIPS 2023), and its label rules: segment labels from language.

The weak label says which events a video has; language models that see and hear say in which segments they are. First,
each segment chooses among the combinations of its video's events the prompt that it is most like, and keeps the events
the prompt names (`choose_by_prompts`). Then visual labels that the other segments of the training set make doubtful
become soft (`reweight`).
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.objectives.classification import pseudo_labels, segment_loss, video_loss
from mmcse.objectives.total import with_total

TextEncoder = Callable[[Sequence[str]], Tensor]
"""P texts to their embeddings (P, E), in the space of the segments' embeddings."""

SegmentLabels = Literal["pseudo", "weak"]
"""Supervise segments by the batch's pseudo labels, or by the weak label of their video (ablation)."""

AUDIO_PROMPT = "This is a sound of {}"
"""What the audio encoder is given for a phrase; the visual one is given the phrase itself."""
OTHER = "other"
"""The phrase for a segment without any of its video's events."""
MAX_EVENTS = 3
"""Events that a video of LLP's training list has at most; the reference code combines no more."""


def event_combinations(count: int) -> list[tuple[int, ...]]:
    """The subsets of a video's events that a segment chooses among: all, then from one to all but one, then none."""
    some = [members for size in range(1, count) for members in combinations(range(count), size)]
    return [tuple(range(count)), *some, ()]


def combination_prompts(
    weak: Tensor, phrases: Sequence[str], max_events: int = MAX_EVENTS
) -> dict[tuple[int, ...], str]:
    """The prompts that the segments of some videos choose among.

    Args:
        weak: (N, K) weak labels.
        phrases: K names of the classes, as a prompt words them.
        max_events: videos with more events, or with none, do not choose.

    Returns:
        The phrases of prompts by the classes that they name.
    """
    sets = (weak > 0.5).unique(dim=0)
    chosen = (classes for events in sets for classes in _choices(events, max_events))
    return {classes: " and ".join(phrases[k] for k in classes) or OTHER for classes in chosen}


def choose_by_prompts(
    weak: Tensor, segments: Tensor, phrases: Sequence[str], encode: TextEncoder, max_events: int = MAX_EVENTS
) -> Tensor:
    """Keep in each segment those of its video's events that the closest prompt names.

    Args:
        weak: (N, K) weak labels.
        segments: (N, T, E) embeddings of the segments of one modality. One of zeros, where a video has no such track,
            is like no prompt and chooses none of the events; that is ours, the features of LLP have no such segments.
        phrases: K names of the classes, as a prompt words them.
        encode: turns all prompts into embeddings; the closest is that of highest cosine, the first one of equals.
        max_events: a video with more events, or with none, keeps its label in all of its segments, whatever they hold.

    Returns:
        (N, T, K) labels, 0 or 1.
    """
    labels = weak.unsqueeze(1).repeat(1, segments.shape[1], 1)
    prompts = combination_prompts(weak, phrases, max_events)
    embeddings = dict(zip(prompts, encode(list(prompts.values())), strict=True)) if prompts else {}
    sets, set_of_video = (weak > 0.5).unique(dim=0, return_inverse=True)
    for index, events in enumerate(sets):
        if choices := _choices(events, max_events):
            videos = set_of_video == index
            texts = torch.stack([embeddings[classes] for classes in choices])
            winner = _cosines(segments[videos], texts).argmax(dim=-1)
            chosen = torch.stack([_labels_of(classes, weak) for classes in choices])[winner]
            labels[videos] = chosen * segments[videos].any(dim=-1, keepdim=True)
    return labels


def _choices(events: Tensor, max_events: int) -> list[tuple[int, ...]]:
    """The combinations of classes that a segment chooses among, given its video's events (K,) as booleans."""
    present: list[int] = events.nonzero().flatten().tolist()
    if not 1 <= len(present) <= max_events:
        return []
    return [tuple(present[i] for i in members) for members in event_combinations(len(present))]


def _labels_of(classes: tuple[int, ...], like: Tensor) -> Tensor:
    """Labels (K,) that hold the given classes."""
    labels = like.new_zeros(like.shape[-1])
    labels[list(classes)] = 1
    return labels


def reweight(labels: Tensor, similarities: Tensor, event_ratio: float = 4.0, noise_ratio: float = 0.4) -> Tensor:
    """Soften the labels of a class where segments with and without it cannot be told apart.

    A labelled segment that is less like its class than some segment without the label becomes `event_ratio` times its
    similarity; a segment without the label that is more like the class than some labelled one becomes `noise_ratio`
    times its similarity. Either happens only where the result lies strictly between 0 and 1. All segments of all
    videos are compared, also of those without the class in their weak label. A class with a single labelled segment,
    at which the reference code stops with an error, is treated like any other.

    Args:
        labels: (N, T, K) labels, 0 or 1, of the whole training set.
        similarities: (N, T, K) cosine of each segment with the name of each class.
        event_ratio: for labelled segments.
        noise_ratio: for the others.

    Returns:
        (N, T, K) labels in [0, 1].
    """
    positive = labels > 0.5
    least_of_positives = similarities.masked_fill(~positive, torch.inf).amin(dim=(0, 1))
    most_of_others = similarities.masked_fill(positive, -torch.inf).amax(dim=(0, 1))
    doubtful = torch.where(positive, similarities < most_of_others, similarities > least_of_positives)
    soft = torch.where(positive, event_ratio * similarities, noise_ratio * similarities)
    return torch.where(doubtful & (soft > 0) & (soft < 1), soft, labels.to(soft.dtype))


def required_texts(weak: Tensor, phrases: Sequence[str], classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """All texts that `language_labels` has embedded.

    Returns:
        Those for the audio encoder, and those for the visual one.
    """
    prompts = list(dict.fromkeys((*combination_prompts(weak, phrases).values(), OTHER)))
    return [AUDIO_PROMPT.format(prompt) for prompt in prompts], list(dict.fromkeys((*prompts, *classes)))


def language_labels(
    weak: Tensor,
    audio: Tensor,
    visual: Tensor,
    phrases: Sequence[str],
    classes: Sequence[str],
    encode_for_audio: TextEncoder,
    encode_for_visual: TextEncoder,
    *,
    soft: bool = True,
    event_ratio: float = 4.0,
    noise_ratio: float = 0.4,
) -> tuple[Tensor, Tensor]:
    """The segment labels of LSLD, made once for the whole training set.

    Args:
        weak: (N, K) weak labels.
        audio: (N, T, E) CLAP embeddings of the segments.
        visual: (N, T, E) CLIP embeddings, of each segment the mean of its frames'.
        phrases: K names of the classes, as a prompt words them.
        classes: K names of the classes, as the data set spells them; the soft labels compare with these.
        encode_for_audio: CLAP's text encoder.
        encode_for_visual: CLIP's.
        soft: whether doubtful visual labels are softened (`reweight`).
        event_ratio: of `reweight`.
        noise_ratio: of `reweight`.

    Returns:
        Labels of audio, 0 or 1, and of visual, in [0, 1], (N, T, K) each.
    """
    of_audio = choose_by_prompts(
        weak, audio, phrases, lambda texts: encode_for_audio([AUDIO_PROMPT.format(text) for text in texts])
    )
    of_visual = choose_by_prompts(weak, visual, phrases, encode_for_visual)
    if soft:
        of_visual = reweight(of_visual, _cosines(visual, encode_for_visual(classes)), event_ratio, noise_ratio)
    return of_audio, of_visual


def _cosines(segments: Tensor, texts: Tensor) -> Tensor:
    """(..., E) and (P, E) to (..., P)."""
    return F.normalize(segments, dim=-1) @ F.normalize(texts, dim=-1).T


class LSLDObjective:
    """Cross-entropy of the segments of both modalities with their labels, and of the video with its weak label.

    Args:
        audio: weight of the audio segments.
        visual: weight of the visual segments.
        video: weight of the video.
        segment_labels: what the segments learn.

    Raises:
        UserError: unknown segment labels.
    """

    mean_over_videos = True

    def __init__(
        self, audio: float = 3.0, visual: float = 1.0, video: float = 1.0, segment_labels: SegmentLabels = "pseudo"
    ) -> None:
        if segment_labels not in get_args(SegmentLabels):
            raise UserError(f"segment_labels is {segment_labels!r}; expected 'pseudo' or 'weak'.")
        self.weights = {"segment_audio": audio, "segment_visual": visual, "video": video}
        self.segment_labels: SegmentLabels = segment_labels

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "segment_audio", "segment_visual" and "video" before their weights, and "total".

        Raises:
            UserError: the batch has no pseudo labels.
        """
        audio, visual = out.segment_logits.unbind(dim=2)
        if self.segment_labels == "pseudo":
            audio_label, visual_label = pseudo_labels(batch)
        else:
            audio_label = visual_label = batch.weak.unsqueeze(1).expand_as(audio)
        terms = {
            "segment_audio": segment_loss(audio, audio_label),
            "segment_visual": segment_loss(visual, visual_label),
            "video": video_loss(out.video_prob, batch.weak),
        }
        return with_total(terms, self.weights)
