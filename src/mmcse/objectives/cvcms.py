"""The objective of CVCMS (Lin et al., NeurIPS 2021): losses on refined labels, and a contrast across videos.

The contrast compares what is heard in one video with what is seen in every other one of the batch: the two go together
where they share an event. To have more of such pairs, a batch is doubled by videos whose picture is another one's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models.cvcms import CVCMSOutput
from mmcse.objectives.classification import check_smoothing, modality_labels, smoothed, video_loss
from mmcse.objectives.total import with_total


@dataclass(frozen=True, kw_only=True)
class MixedBatch(Batch):
    """Videos, followed by mixed ones: the audio of each with the picture of another one."""

    num_original: int
    """How many videos are not mixed; they come first."""


def mix_videos(batch: Batch, partners: Tensor) -> MixedBatch:
    """Double a batch: after its B videos come B more, the audio of video i with the picture of video partners[i].

    Everything that belongs to the audio track (features, labels) is that of video i, everything that belongs to the
    picture that of its partner. The weak label is what either track holds.

    Args:
        batch: B videos.
        partners: (B,) rows.
    """
    audio_label, visual_label = modality_labels(batch)
    weak_audio = torch.cat((audio_label, audio_label))
    weak_visual = torch.cat((visual_label, visual_label[partners]))

    def doubled(name: str, rows: Tensor | None = None) -> Tensor | None:
        x: Tensor | None = getattr(batch, name)
        return None if x is None else torch.cat((x, x if rows is None else x[rows]))

    heard = {name: doubled(name) for name in ("audio", "pseudo_audio", "true_audio")}
    seen = {name: doubled(name, partners) for name in ("visual", "motion", "pseudo_visual", "true_visual")}
    weak = torch.cat((batch.weak, torch.maximum(audio_label, visual_label[partners])))
    labels = {"weak": weak, "weak_audio": weak_audio, "weak_visual": weak_visual}
    return MixedBatch(**heard, **seen, **labels, ids=2 * batch.ids, num_original=len(batch))  # pyright: ignore[reportArgumentType]


def random_partners(count: int, generator: torch.Generator | None = None) -> Tensor:
    """For each of `count` videos another one, uniformly, whatever its labels, (count,).

    Raises:
        ValueError: there is no other video.
    """
    if count < 2:
        raise ValueError(f"{count} video has no partner.")
    return (torch.arange(count) + torch.randint(1, count, (count,), generator=generator)) % count


def label_guided_pooling(features: Tensor, scores: Tensor, label: Tensor) -> Tensor:
    """Pool a modality's segments, weighed by how much they score for the events of its label.

    Args:
        features: (N, T, D).
        scores: (N, T, K) scores of the temporal attention, before any softmax.
        label: (N, K); without any event all segments weigh the same.

    Returns:
        (N, D).
    """
    weights = (scores * label.unsqueeze(1)).sum(dim=-1).softmax(dim=1)
    return (weights.unsqueeze(-1) * features).sum(dim=1)


def shared_events(audio_label: Tensor, visual_label: Tensor) -> Tensor:
    """Which videos' audio (rows) shares an event with which videos' picture (columns).

    Every label above 0 counts, as in the reference. So labels must not be smoothed: all entries of a smoothed one are.

    Args:
        audio_label: (N, K).
        visual_label: (N, K).

    Returns:
        (N, N) booleans.
    """
    return (audio_label > 0).float() @ (visual_label > 0).float().T > 0


def cross_video_loss(similarities: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy of each row's softmax with the uniform distribution over its positives, averaged over all rows.

    Args:
        similarities: (N, N) of audio rows and visual columns; the loss is in single precision or better.
        positives: (N, N) booleans, which pairs go together. A row without any counts as 0.
    """
    similarities = similarities.to(torch.promote_types(similarities.dtype, torch.float32))  # 1e-10 is 0 in half
    target = positives.to(similarities.dtype)
    target = target / (target.sum(dim=1, keepdim=True) + 1e-10)
    return -(target * similarities.log_softmax(dim=1)).sum(dim=1).mean()


class CVCMSObjective:
    """Video losses on the labels of each modality, and after some epochs the contrast across videos.

    In the first epochs the visual label is smoothed and there is no contrast; then it is the other way round. The
    labels of the modalities are the batch's refined ones (the reference uses those of MA), the weak label where it has
    none; the video's label is their union, so an event that was refined away from both is gone.

    Args:
        contrast: weight of the contrast.
        initial_epochs: how many epochs there are without contrast. `on_train_batch_start` says which epoch it is;
            before it is first called, they are over.
        visual_smoothing: smoothing of the visual label in the initial epochs.
        temperature: of the contrast.
        mixing: whether `augment` doubles a batch by mixed videos. The contrast is over all of them, the other losses
            over the original ones.
        original_features: contrast what the encoder reads instead of what it gives.

    Raises:
        UserError: an argument has an impossible value.
    """

    def __init__(
        self,
        contrast: float = 0.85,
        initial_epochs: int = 2,
        visual_smoothing: float = 0.1,
        temperature: float = 1.0,
        mixing: bool = True,
        original_features: bool = False,
    ) -> None:
        check_smoothing(visual_smoothing=visual_smoothing)
        self.weights = {"audio": 1.0, "visual": 1.0, "video": 1.0, "contrast": contrast}
        self.initial_epochs, self.visual_smoothing = initial_epochs, visual_smoothing
        self.temperature, self.mixing, self.original_features = temperature, mixing, original_features
        self.initial = False

    def on_train_batch_start(self, epoch: int, batch: int, num_batches: int) -> None:
        """Take note of the epoch, counted from 0."""
        self.initial = epoch < self.initial_epochs

    def augment(self, batch: Batch) -> Batch:
        """What the network is given in training: the batch, doubled by mixed videos where they are needed."""
        wanted = self.mixing and self.weights["contrast"] and not self.initial
        return mix_videos(batch, random_partners(len(batch))) if wanted and len(batch) > 1 else batch

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "audio", "visual", "video" and "contrast" before their weights, and "total".

        Raises:
            UserError: the output is not of CVCMS's network.
        """
        first = slice(batch.num_original if isinstance(batch, MixedBatch) else len(batch))
        audio, visual = (label[first] for label in modality_labels(batch))
        terms = {
            "audio": video_loss(out.audio_prob[first], audio),
            "visual": video_loss(
                out.visual_prob[first], smoothed(visual, self.visual_smoothing) if self.initial else visual
            ),
            "video": video_loss(out.video_prob[first], torch.maximum(audio, visual)),
        }
        if self.weights["contrast"] and not self.initial:
            labels = modality_labels(batch)
            terms["contrast"] = cross_video_loss(self.similarities(out, *labels), shared_events(*labels))
        return with_total(terms, self.weights)

    def similarities(self, out: ParserOutput, audio_label: Tensor, visual_label: Tensor) -> Tensor:
        """Cosines of the pooled audio (rows) and visual (columns) features of all videos, over the temperature.

        Args:
            out: of N videos.
            audio_label: (N, K) labels that guide the pooling.
            visual_label: (N, K).

        Returns:
            (N, N).

        Raises:
            UserError: the output is not of CVCMS's network.
        """
        if not isinstance(out, CVCMSOutput):
            raise UserError(
                "The contrast across videos needs the scores of CVCMS's temporal attention. Use the network of CVCMS "
                "(model=cvcms), or leave the loss out (contrast 0)."
            )
        features = out.projected if self.original_features else out.encoded
        audio, visual = (
            F.normalize(label_guided_pooling(x, scores, label), dim=-1)
            for x, scores, label in zip(
                features.unbind(dim=2), out.temporal.unbind(dim=2), (audio_label, visual_label), strict=True
            )
        )
        return audio @ visual.T / self.temperature
