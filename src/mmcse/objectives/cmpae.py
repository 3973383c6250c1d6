"""The objective of CMPAE (Gao, Chen and Xu, CVPR 2023): JoMoLD's, and branches that teach each other in turn."""

import os
from typing import Literal, get_args

import torch
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models.cmpae import CMPAEOutput
from mmcse.objectives.classification import bounded
from mmcse.objectives.contrastive import ContrastForm
from mmcse.objectives.denoising import NoiseRatios, Ramp
from mmcse.objectives.jomold import JoMoLDObjective

Learner = Literal["video", "modalities"]
"""Which branch the mutual loss teaches: the video's own, or those of audio and visual."""

LEAST_VIDEO_UNCERTAINTY = 0.9
"""The video's uncertainty is raised to this value in the mutual loss, so what teaches the modalities weighs 0.1 at
most."""


def mutual_loss(
    video_prob: Tensor,
    audio_prob: Tensor,
    visual_prob: Tensor,
    audio_uncertainty: Tensor,
    visual_uncertainty: Tensor,
    video_uncertainty: Tensor,
    weak: Tensor,
    learner: Learner,
) -> Tensor:
    """Squared difference of the video's probabilities and those of its modalities, weighed by how certain each is.

    Of an event in the weak label the more probable modality is compared, of another event the mean of both. The
    teacher's probabilities have no gradient, but the uncertainties do, those of both sides.

    Args:
        video_prob: (B, K).
        audio_prob: (B, K).
        visual_prob: (B, K).
        audio_uncertainty: (B, K).
        visual_uncertainty: (B, K).
        video_uncertainty: (B,).
        weak: (B, K) weak labels.
        learner: which branch is taught.

    Raises:
        UserError: an unknown learner.
    """
    if learner not in get_args(Learner):
        raise UserError(f"learner is {learner!r}; expected 'video' or 'modalities'.")
    audio_larger = audio_prob >= visual_prob
    present = torch.where(audio_larger, audio_prob, visual_prob)
    present_uncertainty = torch.where(audio_larger, audio_uncertainty, visual_uncertainty)
    absent, absent_uncertainty = (audio_prob + visual_prob) / 2, (audio_uncertainty + visual_uncertainty) / 2
    trust = video_uncertainty.clamp(min=LEAST_VIDEO_UNCERTAINTY).unsqueeze(-1)
    if learner == "video":
        present, absent = present.detach(), absent.detach()
    else:
        video_prob, trust = video_prob.detach(), 1 - trust
    of_present = weak * (1 - present_uncertainty) * (video_prob - present).square()
    of_absent = (1 - weak) * (1 - absent_uncertainty) * (video_prob - absent).square()
    return (trust * (of_present + of_absent)).mean()


class CMPAEObjective(JoMoLDObjective):
    """Video losses on denoised labels, the contrast of segments, and the mutual loss.

    The modalities learn from the video's branch in the first batch of an epoch, in the third, and so on; in the
    others the video's branch learns from the modalities. `on_train_batch_start` says which batch it is; before it is
    first called, it is the first one.

    Args:
        audio: weight of the audio loss.
        visual: weight of the visual loss.
        video: weight of the video loss.
        contrast: weight of the contrastive loss; 0 leaves it out.
        mutual: weight of the mutual loss; 0 leaves it out.
        noise_ratios: JoMoLD's noise ratios, or the file that holds them; None keeps all labels.
        ramp: how denoising sets in.
        audio_smoothing: smoothing of the audio label towards 1/2.
        visual_smoothing: smoothing of the visual label.
        temperature: of the contrastive loss.
        contrast_smoothing: smoothing of its target.
        contrast_form: where its logarithm stands.

    Raises:
        UserError: an argument has an impossible value.
    """

    def __init__(
        self,
        audio: float = 2.0,
        visual: float = 0.6,
        video: float = 0.6,
        contrast: float = 1.0,
        mutual: float = 1.0,
        noise_ratios: NoiseRatios | str | os.PathLike[str] | None = None,
        ramp: Ramp = "reference",
        audio_smoothing: float = 0.0,
        visual_smoothing: float = 0.1,
        temperature: float = 0.2,
        contrast_smoothing: float = 0.1,
        contrast_form: ContrastForm = "mixture",
    ) -> None:
        super().__init__(
            audio=audio,
            visual=visual,
            video=video,
            contrast=contrast,
            noise_ratios=noise_ratios,
            ramp=ramp,
            audio_smoothing=audio_smoothing,
            visual_smoothing=visual_smoothing,
            temperature=temperature,
            contrast_smoothing=contrast_smoothing,
            contrast_form=contrast_form,
        )
        self.weights["mutual"] = mutual
        self.learner: Learner = "modalities"

    def on_train_batch_start(self, epoch: int, batch: int, num_batches: int) -> None:
        """Take note of which batch of which epoch comes next; all numbers from 0."""
        super().on_train_batch_start(epoch, batch, num_batches)
        self.learner = "video" if batch % 2 else "modalities"

    def terms(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms of JoMoLD, and "mutual".

        Raises:
            UserError: the output is not of CMPAE's network.
        """
        terms = super().terms(out, batch)
        if not self.weights["mutual"]:
            return terms
        if not isinstance(out, CMPAEOutput):
            raise UserError(
                "The mutual loss of CMPAE needs uncertainties. Use the network of CMPAE (model=cmpae), or leave the "
                "loss out (mutual 0)."
            )
        terms["mutual"] = mutual_loss(
            bounded(out.video_prob),
            bounded(out.audio_prob),
            bounded(out.visual_prob),
            out.audio_uncertainty,
            out.visual_uncertainty,
            out.video_uncertainty,
            batch.weak,
            self.learner,
        )
        return terms
