"""The objective of DHHN (Jiang et al., ACM MM 2022): guides give targets, and modalities are pushed apart."""

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models.dhhn import DHHNOutput
from mmcse.objectives.classification import (
    bounded,
    check_smoothing,
    modality_target,
    smoothed,
    video_loss,
)
from mmcse.objectives.total import with_total

Labels = Literal["weak", "refined"]
"""The authors' "train" takes the weak labels, their "retrain" those that a refinement left to each modality."""

VideoTarget = Literal["refined_audio", "weak"]
"""With refined labels: what the video-level probability is trained towards."""


class Targets(NamedTuple):
    """What each probability is trained towards, (B, K) each."""

    audio: Tensor
    visual: Tensor
    video: Tensor
    audio_guide: Tensor
    visual_guide: Tensor


def weak_targets(weak: Tensor, visual_smoothing: float = 0.1) -> Targets:
    """Targets without refinement: the weak label (B, K) everywhere, smoothed for the parser's visual probability."""
    return Targets(weak, smoothed(weak, visual_smoothing), weak, weak, weak)


def refined_targets(
    weak: Tensor,
    audio: Tensor,
    visual: Tensor,
    visual_smoothing: float = 0.1,
    video_target: VideoTarget = "refined_audio",
) -> Targets:
    """Targets after a refinement: an event that was removed from a modality is exactly 0 there.

    Args:
        weak: (B, K) weak labels.
        audio: (B, K) the labels that the audio track keeps.
        visual: (B, K) the labels that the visual track keeps.
        visual_smoothing: smoothing of the visual label.
        video_target: in the released code the refined audio label and the video's label are one array, so an event
            that is only visible becomes a negative example for the video. "weak" keeps the video's label.
    """
    of_audio = modality_target(weak, audio, 0)
    of_visual = modality_target(weak, visual, visual_smoothing)
    return Targets(of_audio, of_visual, of_audio if video_target == "refined_audio" else weak, of_audio, of_visual)


class DHHNObjective:
    """The parser's and the guides' losses, whose sum trains all of them: no gradient passes from one to another.

    The parser learns labels and follows its guides, and the guides learn labels. With both guides, the two modalities
    are moreover pushed apart, in the parser and among the guides.

    Args:
        labels: which labels are learnt; refined ones are the batch's `weak_audio` and `weak_visual`.
        visual_smoothing: smoothing of the visual label towards 1/2.
        video_target: the video's target under refined labels, see `refined_targets`.

    Raises:
        UserError: an unknown choice, or a smoothing outside [0, 1].
    """

    def __init__(
        self, labels: Labels = "weak", visual_smoothing: float = 0.1, video_target: VideoTarget = "refined_audio"
    ) -> None:
        if labels not in ("weak", "refined"):
            raise UserError(f"labels is {labels!r}; expected 'weak' or 'refined'.")
        if video_target not in ("refined_audio", "weak"):
            raise UserError(f"video_target is {video_target!r}; expected 'refined_audio' or 'weak'.")
        check_smoothing(visual_smoothing=visual_smoothing)
        self.labels, self.visual_smoothing = labels, visual_smoothing
        self.video_target: VideoTarget = video_target

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms that the guides allow, all of weight one, and their sum as "total".

        "audio", "visual" and "video" are always there; "distil_audio" and "guide_audio" (likewise visual) with that
        guide; "adversarial" and "guide_adversarial", which are negative, with both.

        Raises:
            UserError: labels are "refined" and the batch has none, or "weak" and it has some; or the output is not of
                DHHN's network.
        """
        if not isinstance(out, DHHNOutput):
            raise UserError("The objective of DHHN needs what guides say. Use the network of DHHN (model=dhhn).")
        targets = self.targets(batch)
        terms = {
            "audio": video_loss(out.audio_prob, targets.audio),
            "visual": video_loss(out.visual_prob, targets.visual),
            "video": video_loss(out.video_prob, targets.video),
        }
        if out.audio_guide is not None:
            terms["distil_audio"] = _difference(out.audio_prob, out.audio_guide.prob.detach())
            terms["guide_audio"] = video_loss(out.audio_guide.prob, targets.audio_guide)
        if out.visual_guide is not None:
            terms["distil_visual"] = _difference(out.visual_prob, out.visual_guide.prob.detach())
            terms["guide_visual"] = video_loss(out.visual_guide.prob, targets.visual_guide)
        if out.audio_guide is not None and out.visual_guide is not None:
            terms["adversarial"] = -_difference(out.audio_prob, out.visual_prob)
            terms["guide_adversarial"] = -_difference(out.audio_guide.prob, out.visual_guide.prob)
        return with_total(terms, dict.fromkeys(terms, 1.0))

    def targets(self, batch: Batch) -> Targets:
        """What the probabilities of a batch are trained towards."""
        if batch.weak_audio is None or batch.weak_visual is None:
            if self.labels == "refined":
                raise UserError(
                    "DHHN is to learn refined labels of each modality, and the batch has none. Name some "
                    "(data.label_changes), let a first stage make them (model=dhhn_retrain), or say "
                    "objective.labels=weak."
                )
            return weak_targets(batch.weak, self.visual_smoothing)
        if self.labels == "weak":
            raise UserError(
                "The batch has refined labels of each modality, and DHHN is to learn weak ones. To learn the refined "
                "ones say objective.labels=refined (model=dhhn_retrain has the recipe); else leave out "
                "data.label_changes and the stages that make it."
            )
        return refined_targets(
            batch.weak, batch.weak_audio, batch.weak_visual, self.visual_smoothing, self.video_target
        )


def _difference(first: Tensor, second: Tensor) -> Tensor:
    """Mean-squared difference of two probabilities (B, K), kept off 0 and 1 as in `video_loss`."""
    return F.mse_loss(bounded(first), bounded(second))
