"""The objective of MA (Wu and Yang, CVPR 2021), and its label rule: labels of each modality by exchanging tracks.

A first network is trained on weak labels. Then every training video exchanges its picture, and after that its sound,
with a video that shares no event with it. Where an event is found neither in the picture nor in the sound of a video
whose own picture was kept, it is not visible there, and the visual label is changed; likewise for audio
(`label_changes`). A new network is trained with the refined labels, by the same objective.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.objectives.classification import check_smoothing, modality_labels, modality_target, video_loss
from mmcse.objectives.contrastive import contrastive_loss, hybrid_output, segment_similarities
from mmcse.objectives.total import with_total

VideoTarget = Literal["audio", "weak", "union"]
"""What the video learns where labels were refined: the audio label (the reference, by an alias: labels that audio
loses are lost to the video, too), the weak label (the paper's words), or what either modality keeps (CVCMS)."""


class ModalityProbs(NamedTuple):
    """Video-level probabilities of the two modalities, (N, K) each."""

    audio: Tensor
    visual: Tensor


class ExchangedProbs(NamedTuple):
    """What a network finds in videos as they are, and with one track exchanged."""

    own: ModalityProbs
    other_visual: ModalityProbs
    """With the picture of the partner."""
    other_audio: ModalityProbs
    """With the sound of the partner."""


class LabelChanges(NamedTuple):
    """Which weak labels are removed from which modality, booleans (N, K) each."""

    audio: Tensor
    visual: Tensor


def draw_partners(weak: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """For each video another one that shares no event with it, uniformly among all that do not, (N,).

    Args:
        weak: (N, K) weak labels of the training videos.
        generator: where randomness comes from.

    Raises:
        UserError: some video shares an event with every other one.
    """
    partners = torch.empty(len(weak), dtype=torch.long)
    for row, label in enumerate(weak):
        others = (weak @ label == 0).nonzero().flatten()
        if not len(others):
            raise UserError(
                f"Training video {row} has no partner for exchanging tracks: each of the {len(weak)} videos shares an "
                "event with it. MA needs more videos, or videos with fewer events."
            )
        partners[row] = others[torch.randint(len(others), (), generator=generator)]
    return partners


@torch.no_grad()
def exchange_tracks(network: nn.Module, videos: Batch, partners: Batch) -> ExchangedProbs:
    """Parse videos as they are, with their partners' picture (appearance and motion), and with their partners' sound.

    Args:
        network: trained by MA's objective; its mode is left as it is, and should be evaluation mode.
        videos: B videos.
        partners: the B videos they exchange tracks with.
    """

    def probs(sound: Batch, picture: Batch) -> ModalityProbs:
        out: ParserOutput = network(sound.audio, picture.visual, picture.motion, auxiliary=False)
        return ModalityProbs(out.audio_prob, out.visual_prob)

    return ExchangedProbs(probs(videos, videos), probs(videos, partners), probs(partners, videos))


def class_errors(prob: Tensor, weak: Tensor) -> Tensor:
    """How often a modality's decision differs from the weak label, as a share of the worst class's errors, (K,).

    Args:
        prob: (N, K) probabilities of all training videos; a decision is positive above 1/2.
        weak: (N, K) weak labels.
    """
    errors = ((prob > 0.5) != (weak > 0.5)).to(prob.dtype).mean(dim=0)
    return errors / errors.max()


def label_changes(weak: Tensor, probs: ExchangedProbs, threshold: float = 0.5) -> LabelChanges:
    """Find the labels of a modality that neither output supports once the other modality is a foreign one.

    The probabilities are compared with the threshold after division by the modality's error of the class
    (`class_errors`), so that a class which is mostly right is rarely changed, and one without errors never.

    Args:
        weak: (N, K) weak labels of all training videos.
        probs: of all training videos.
        threshold: a probability below it finds nothing.
    """
    errors = ModalityProbs(class_errors(probs.own.audio, weak), class_errors(probs.own.visual, weak))

    def unsupported(found: ModalityProbs, error: Tensor) -> Tensor:
        return (weak > 0.5) & (found.audio / error < threshold) & (found.visual / error < threshold)

    return LabelChanges(
        audio=unsupported(probs.other_visual, errors.audio), visual=unsupported(probs.other_audio, errors.visual)
    )


def refine(batch: Batch, changes: LabelChanges) -> tuple[Tensor, Tensor]:
    """The weak labels that audio and visual keep, (B, K) each: `Batch.weak_audio` and `Batch.weak_visual`."""
    return batch.weak.masked_fill(changes.audio, 0), batch.weak.masked_fill(changes.visual, 0)


class MAObjective:
    """Video losses of both modalities and of the video, and the contrast of segments.

    Serves the first step, on weak labels, and the third, where the batch brings refined labels. A label that the
    visual modality loses is 0; those that it keeps are smoothed.

    Args:
        contrast: weight of the contrastive loss; 0 leaves it out.
        visual_smoothing: smoothing of the visual label towards 1/2.
        video_target: what the video learns where labels were refined.
        temperature: of the contrastive loss.
        contrast_smoothing: smoothing of its target.

    Raises:
        UserError: an argument has an impossible value.
    """

    mean_over_videos = True

    def __init__(
        self,
        contrast: float = 1.0,
        visual_smoothing: float = 0.1,
        video_target: VideoTarget = "audio",
        temperature: float = 0.2,
        contrast_smoothing: float = 0.1,
    ) -> None:
        check_smoothing(visual_smoothing=visual_smoothing, contrast_smoothing=contrast_smoothing)
        if video_target not in get_args(VideoTarget):
            raise UserError(f"video_target is {video_target!r}; expected 'audio', 'weak' or 'union'.")
        self.weights = {"audio": 1.0, "visual": 1.0, "video": 1.0, "contrast": contrast}
        self.visual_smoothing, self.contrast_smoothing = visual_smoothing, contrast_smoothing
        self.temperature = temperature
        self.video_target: VideoTarget = video_target

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "audio", "visual", "video" and "contrast", and "total".

        Raises:
            UserError: the output holds no features to contrast.
        """
        audio, visual = modality_labels(batch)
        terms = {
            "audio": video_loss(out.audio_prob, audio),
            "visual": video_loss(out.visual_prob, modality_target(batch.weak, visual, self.visual_smoothing)),
            "video": video_loss(out.video_prob, self.video_label(batch)),
        }
        if self.weights["contrast"]:
            features = hybrid_output(out)
            audio_features, visual_features = features.encoded[:, :, 0], features.projected[:, :, 1]
            similarities = segment_similarities(audio_features, visual_features, self.temperature)
            terms["contrast"] = contrastive_loss(similarities, self.contrast_smoothing, form="cross_entropy")
        return with_total(terms, self.weights)

    def video_label(self, batch: Batch) -> Tensor:
        """What the video learns, (B, K)."""
        audio, visual = modality_labels(batch)
        return {"audio": audio, "weak": batch.weak, "union": torch.maximum(audio, visual)}[self.video_target]
