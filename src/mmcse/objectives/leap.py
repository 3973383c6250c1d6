"""The objective of LEAP (ECCV 2024): classification, and features as alike as the events of their segments."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.objectives.classification import check_smoothing, pseudo_labels, smoothed, video_loss
from mmcse.objectives.contrastive import hybrid_output
from mmcse.objectives.total import with_total


def shared_events(audio: Tensor, visual: Tensor, epsilon: float = 0.01) -> Tensor:
    """How similar an audio and a visual segment should be, by the events they share.

    With r = (number of shared events) / (most events of any segment of the video, in either modality), the similarity
    is r / (1 + r) + epsilon: between epsilon and 1/2 + epsilon.

    Args:
        audio: (B, T, K) labels of the audio segments.
        visual: (B, T, K) labels of the visual segments.
        epsilon: similarity of segments that share nothing.

    Returns:
        (B, T, T); rows are audio segments.
    """
    most = torch.maximum(audio.sum(dim=-1), visual.sum(dim=-1)).amax(dim=1)  # (B,)
    most = most.masked_fill(most == 0, 1e-8)  # no event at all: every product is 0, too
    ratio = audio @ visual.transpose(1, 2) / most[:, None, None]
    return ratio / (1 + ratio) + epsilon


def similarity_loss(encoded: Tensor, target: Tensor) -> Tensor:
    """Mean-squared difference of cosine similarities, negative ones as 0, with their targets.

    Args:
        encoded: (B, T, 2, D) segment features of audio and visual.
        target: (B, T, T) similarities; rows are audio segments.
    """
    audio, visual = F.normalize(encoded, dim=-1, eps=1e-12).unbind(dim=2)
    return F.mse_loss((audio @ visual.transpose(1, 2)).relu(), target.to(encoded.dtype))


@torch.no_grad()
def predicted_events(out: ParserOutput, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """What the network itself finds: segments, gated by the video-level probability of their own modality.

    Returns:
        0/1 labels (B, T, K) of audio and visual.
    """
    gates = torch.stack((out.audio_prob, out.visual_prob), dim=1) >= threshold  # (B, 2, K)
    audio, visual = ((out.segment_prob >= threshold) & gates[:, None]).to(out.segment_logits.dtype).unbind(dim=2)
    return audio, visual


class LEAPObjective:
    """Video and segment cross-entropies of both modalities, and the similarity of their features.

    Args:
        segment: weight of the two segment terms.
        similarity: weight of the similarity term.
        labels: "pseudo" takes segment pseudo labels, and at video level whether an event has any segment; "weak"
            takes the video's own label for every segment, smoothed for visual.
        similarity_labels: whether the similarity follows the segment labels, or the network's own predictions.
        epsilon: target similarity of segments that share no event.
        visual_smoothing: of the visual label, where labels are weak.

    With LEAP's thresholded video probability the term "video" has no gradient and is 16.1 for every wrong entry; it
    is part of the total all the same, as in the released code.

    Raises:
        UserError: an unknown choice, or a smoothing outside [0, 1].
    """

    mean_over_videos = True

    def __init__(
        self,
        segment: float = 1.0,
        similarity: float = 1.0,
        labels: Literal["pseudo", "weak"] = "pseudo",
        similarity_labels: Literal["labels", "predictions"] = "labels",
        epsilon: float = 0.01,
        visual_smoothing: float = 0.1,
    ) -> None:
        if labels not in ("pseudo", "weak"):
            raise UserError(f"labels is {labels!r}; expected 'pseudo' or 'weak'.")
        if similarity_labels not in ("labels", "predictions"):
            raise UserError(f"similarity_labels is {similarity_labels!r}; expected 'labels' or 'predictions'.")
        check_smoothing(visual_smoothing=visual_smoothing)
        self.weights = {"audio": 1.0, "visual": 1.0, "video": 1.0, "similarity": similarity}
        self.weights |= {"segment_audio": segment, "segment_visual": segment}
        self.epsilon = epsilon
        self.labels, self.similarity_labels, self.visual_smoothing = labels, similarity_labels, visual_smoothing

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The six terms before their weights, and their weighted sum as "total".

        Raises:
            UserError: labels are "pseudo" and the batch has none, or the output lacks encoded features.
        """
        audio, visual = self._segment_labels(batch)
        audio_prob, visual_prob = out.segment_prob.unbind(dim=2)
        related = predicted_events(out) if self.similarity_labels == "predictions" else (audio, visual)
        terms = {
            "audio": video_loss(out.audio_prob, audio.amax(dim=1)),
            "visual": video_loss(out.visual_prob, visual.amax(dim=1)),
            "video": video_loss(out.video_prob, batch.weak),
            "segment_audio": video_loss(audio_prob, audio),
            "segment_visual": video_loss(visual_prob, visual),
            "similarity": similarity_loss(hybrid_output(out).encoded, shared_events(*related, self.epsilon)),
        }
        return with_total(terms, self.weights)

    def _segment_labels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labels (B, T, K) of audio and visual segments."""
        if self.labels == "pseudo":
            return pseudo_labels(batch)
        labels = batch.weak, smoothed(batch.weak, self.visual_smoothing)
        audio, visual = (label[:, None].expand(-1, batch.motion.shape[1], -1) for label in labels)
        return audio, visual
