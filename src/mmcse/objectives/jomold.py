"""The objective of JoMoLD (Cheng et al., ECCV 2022), for both of its stages."""

import os

from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.objectives.classification import check_smoothing, video_loss
from mmcse.objectives.contrastive import ContrastForm, contrastive_loss, hybrid_output, segment_similarities
from mmcse.objectives.denoising import LabelDenoising, NoiseRatios, Ramp
from mmcse.objectives.total import with_total


class JoMoLDObjective:
    """Video losses of the modalities on denoised labels, of the video on its weak label, and the contrast of segments.

    The defaults are the second stage's; the first has `audio=1` and no noise ratios.

    Args:
        audio: weight of the audio loss.
        visual: weight of the visual loss.
        video: weight of the video loss.
        contrast: weight of the contrastive loss; 0 leaves it out.
        noise_ratios: the noise ratios, or the file that holds them; None keeps all labels.
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
        visual: float = 1.0,
        video: float = 1.0,
        contrast: float = 1.0,
        noise_ratios: NoiseRatios | str | os.PathLike[str] | None = None,
        ramp: Ramp = "reference",
        audio_smoothing: float = 0.0,
        visual_smoothing: float = 0.1,
        temperature: float = 0.2,
        contrast_smoothing: float = 0.1,
        contrast_form: ContrastForm = "mixture",
    ) -> None:
        check_smoothing(contrast_smoothing=contrast_smoothing)
        self.weights = {"audio": audio, "visual": visual, "video": video, "contrast": contrast}
        self.targets = LabelDenoising(noise_ratios, ramp, audio_smoothing, visual_smoothing)
        self.temperature, self.contrast_smoothing = temperature, contrast_smoothing
        self.contrast_form: ContrastForm = contrast_form
        self.mean_over_videos = noise_ratios is None  # denoising compares the videos of a batch

    def on_train_batch_start(self, epoch: int, batch: int, num_batches: int) -> None:
        """Take note of which batch of which epoch comes next; all numbers from 0."""
        self.targets.on_train_batch_start(epoch, batch, num_batches)

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The loss terms before their weights, and their weighted sum as "total"."""
        return with_total(self.terms(out, batch), self.weights)

    def terms(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "audio", "visual", "video" and "contrast" before their weights.

        Raises:
            UserError: the output lacks what denoising or the contrast needs.
        """
        targets = self.targets(out, batch)
        terms = {
            "audio": video_loss(out.audio_prob, targets.audio),
            "visual": video_loss(out.visual_prob, targets.visual),
            "video": video_loss(out.video_prob, batch.weak),
        }
        if self.weights["contrast"]:
            encoded = hybrid_output(out).encoded
            similarities = segment_similarities(encoded[:, :, 0], encoded[:, :, 1], self.temperature)
            terms["contrast"] = contrastive_loss(similarities, self.contrast_smoothing, self.contrast_form)
        return terms
