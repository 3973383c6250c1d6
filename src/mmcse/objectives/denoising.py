"""JoMoLD's label rules (Cheng et al., ECCV 2022), which CMPAE uses as well: noise ratios and denoising.

First an estimator, the network without cross-attention, is trained on the weak labels; what it finds in the training
videos gives for each class the share of videos whose label is noise in the audio and in the visual track
(`noise_ratios`). Then a new network is trained with cross-attention. In each of its batches, as many labels as the
ratios allow are removed (`denoise`) where the two modalities, each on its own, disagree most: a class whose label fits
the audio track much better than the visual one is taken to be heard but not seen.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import MissingFileError, UserError
from mmcse.files import write_json
from mmcse.models.jomold import JoMoLDOutput
from mmcse.objectives.classification import (
    check_smoothing,
    modality_labels,
    modality_target,
    smoothed,
    video_loss,
)

BatchMean = Literal["batches", "videos"]
"""The mean probability of a class over batches, where a short one weighs as much (reference), or over videos."""

Ramp = Literal["reference", "linear", "none"]
"""How denoising sets in: from the second epoch (reference code), in proportion to the steps of the first epoch (what
the reference code presumably meant), or with the first batch."""

RAMP_EPOCHS = 0.9
"""Epochs after which a linear ramp has reached the full ratios."""


class NoiseRatios(NamedTuple):
    """The share of a class's labels that is noise in each modality, (K,) float64 each."""

    audio: Tensor
    visual: Tensor


class ModalityTargets(NamedTuple):
    """What guides the two modalities at video level, (B, K) each."""

    audio: Tensor
    visual: Tensor


def noise_ratios(
    audio_prob: Tensor,
    visual_prob: Tensor,
    weak: Tensor,
    batch_size: int,
    *,
    audio_threshold: float = 0.6,
    visual_threshold: float = 1.8,
    audio_smoothing: float = 0.0,
    visual_smoothing: float = 0.1,
    mean: BatchMean = "batches",
) -> NoiseRatios:
    """Estimate how many labels of each class are noise in the audio and in the visual track.

    A video's label is counted as noise where the estimator's probability, times the smoothed label, is low for the
    class: below `threshold` times the mean probability of the class over all videos, labelled or not.

    Args:
        audio_prob: (N, K) the estimator's audio probabilities of the training videos, in the order of the batches.
        visual_prob: (N, K) its visual probabilities.
        weak: (N, K) weak labels.
        batch_size: videos of a batch; the last one may be short.
        audio_threshold: for audio.
        visual_threshold: for visual.
        audio_smoothing: smoothing of the audio label.
        visual_smoothing: smoothing of the visual label.
        mean: how the mean probability of a class is taken.

    Returns:
        The ratios; 0 for a class that no video is labelled with (the reference code divides 0 by 0 there).

    Raises:
        UserError: an unknown mean.
    """
    if mean not in get_args(BatchMean):
        raise UserError(f"mean is {mean!r}; expected 'batches' or 'videos'.")
    positive = weak > 0.5

    def ratio(prob: Tensor, threshold: float, smoothing: float) -> Tensor:
        batches = prob.split(batch_size) if mean == "batches" else (prob,)
        class_mean = torch.stack([batch.mean(dim=0) for batch in batches]).mean(dim=0)
        noisy = (smoothed(weak, smoothing) * prob / class_mean < threshold) & positive
        return noisy.sum(dim=0).double() / positive.sum(dim=0).clamp(min=1)

    return NoiseRatios(
        ratio(audio_prob, audio_threshold, audio_smoothing), ratio(visual_prob, visual_threshold, visual_smoothing)
    )


def denoise(
    audio_label: Tensor, visual_label: Tensor, audio_loss: Tensor, visual_loss: Tensor, ratios: NoiseRatios
) -> ModalityTargets:
    """Remove the labels of a batch that one modality contradicts and the other one confirms.

    Of a class's P labelled videos, those lose the visual label that are both among the floor(ratio P) of highest
    visual loss and among the same number of lowest audio loss; likewise for the audio label with exchanged roles. The
    two rules do not see each other's changes.

    Args:
        audio_label: (B, K) labels of the audio track, 0 or 1.
        visual_label: (B, K) labels of the visual track.
        audio_loss: (B, K) loss of each audio label, the network not seeing the other modality.
        visual_loss: (B, K) loss of each visual label.
        ratios: the shares to remove at most.

    Returns:
        The labels that remain, (B, K) each.

    Raises:
        UserError: the ratios are not of K classes.
    """
    K = audio_label.shape[-1]
    if any(ratio.shape != (K,) for ratio in ratios):
        raise UserError(f"There are noise ratios of {len(ratios.audio)} classes, but labels of {K} classes.")

    def remaining(label: Tensor, own_loss: Tensor, other_loss: Tensor, ratio: Tensor) -> Tensor:
        positive = label > 0.5
        count = (ratio.cpu() * positive.sum(dim=0).cpu()).floor().long().to(label.device)  # in double precision
        noise = _among_lowest(-own_loss, positive, count) & _among_lowest(other_loss, positive, count)
        return label.masked_fill(noise, 0)

    return ModalityTargets(
        remaining(audio_label, audio_loss, visual_loss, ratios.audio),
        remaining(visual_label, visual_loss, audio_loss, ratios.visual),
    )


def _among_lowest(values: Tensor, members: Tensor, count: Tensor) -> Tensor:
    """Which entries (B, K) are among the `count` (K,) lowest of their column's members."""
    order = values.masked_fill(~members, torch.inf).argsort(dim=0, stable=True)
    return members & (order.argsort(dim=0) < count)


def denoising_share(epoch: int, batch: int, num_batches: int, ramp: Ramp = "reference") -> float:
    """The share of the noise ratios that a batch applies.

    The reference code multiplies the running ratios, batch by batch, by how far training has come, and reads them
    again at the start of an epoch. The first factor is 0, so nothing is removed in the first epoch; from the second
    one on all factors exceed 1 and are capped.

    Args:
        epoch: from 0.
        batch: from 0, within the epoch.
        num_batches: of an epoch.
        ramp: see `Ramp`.
    """
    if ramp == "reference":
        return float(epoch > 0)
    if ramp == "linear":
        return min(1.0, (epoch * num_batches + batch) / (RAMP_EPOCHS * num_batches))
    return 1.0


def write_noise_ratios(path: str | os.PathLike[str], ratios: NoiseRatios, classes: Sequence[str]) -> None:
    """Write the ratios as JSON: class names and a number per class and modality.

    Raises:
        UserError: the file cannot be written.
    """
    write_json(path, {"classes": list(classes), **{name: ratio.tolist() for name, ratio in ratios._asdict().items()}})


def read_noise_ratios(path: str | os.PathLike[str]) -> NoiseRatios:
    """Read what `write_noise_ratios` wrote.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not of this form.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"There is no file {path}. Expected the noise ratios that JoMoLD's first stage leaves.")
    try:
        content = json.loads(Path(path).read_bytes())
        ratios = NoiseRatios(*(torch.tensor(content[name], dtype=torch.float64) for name in NoiseRatios._fields))
        if any(len(ratio) != len(content["classes"]) or not ((ratio >= 0) & (ratio <= 1)).all() for ratio in ratios):
            raise ValueError("not a number from 0 to 1 for each class")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} does not hold noise ratios ({error!r}). Expected JSON: {{"classes": [names], "audio": [a number '
            'from 0 to 1 for each], "visual": [likewise]}.'
        ) from error
    return ratios


class LabelDenoising:
    """JoMoLD's denoising as a part of an objective: from a batch to what guides its modalities.

    Args:
        ratios: the noise ratios, or the file that holds them; None keeps all labels.
        ramp: how denoising sets in. Batches are counted by `on_train_batch_start`; before it is first called the full
            ratios hold.
        audio_smoothing: smoothing of the audio label towards 1/2.
        visual_smoothing: smoothing of the visual label.

    Raises:
        UserError: an unknown ramp, a smoothing outside [0, 1], or a file without noise ratios.
    """

    def __init__(
        self,
        ratios: NoiseRatios | str | os.PathLike[str] | None,
        ramp: Ramp = "reference",
        audio_smoothing: float = 0.0,
        visual_smoothing: float = 0.1,
    ) -> None:
        if ramp not in get_args(Ramp):
            raise UserError(f"ramp is {ramp!r}; expected one of {', '.join(map(repr, get_args(Ramp)))}.")
        check_smoothing(audio_smoothing=audio_smoothing, visual_smoothing=visual_smoothing)
        self.ratios = read_noise_ratios(ratios) if isinstance(ratios, str | os.PathLike) else ratios
        self.ramp: Ramp = ramp
        self.audio_smoothing, self.visual_smoothing = audio_smoothing, visual_smoothing
        self.share = 1.0

    def on_train_batch_start(self, epoch: int, batch: int, num_batches: int) -> None:
        """Take note of how far training has come; arguments as those of `denoising_share`."""
        self.share = denoising_share(epoch, batch, num_batches, self.ramp)

    def __call__(self, out: ParserOutput, batch: Batch) -> ModalityTargets:
        """Targets of a batch: smoothed weak labels, 0 where a label is removed.

        Raises:
            UserError: labels are to be removed, but the network did not parse the batch without cross-attention.
        """
        kept = ModalityTargets(*modality_labels(batch))
        if self.ratios is not None and self.share > 0:
            kept = self._denoise(out, batch, kept, self.ratios)
        return self._targets(batch.weak, kept)

    def _denoise(
        self, out: ParserOutput, batch: Batch, labels: ModalityTargets, ratios: NoiseRatios
    ) -> ModalityTargets:
        if not isinstance(out, JoMoLDOutput) or out.unimodal is None:
            raise UserError(
                "Denoising needs what the network finds without cross-attention, and this output has none. Use the "
                "network of JoMoLD or CMPAE, with cross-attention, in training mode."
            )
        targets = self._targets(batch.weak, labels)
        losses = (
            video_loss(prob, target, reduction="none")
            for prob, target in zip((out.unimodal.audio_prob, out.unimodal.visual_prob), targets, strict=True)
        )
        return denoise(*labels, *losses, ratios=NoiseRatios(*(self.share * ratio for ratio in ratios)))

    def _targets(self, weak: Tensor, kept: ModalityTargets) -> ModalityTargets:
        return ModalityTargets(
            modality_target(weak, kept.audio, self.audio_smoothing),
            modality_target(weak, kept.visual, self.visual_smoothing),
        )
