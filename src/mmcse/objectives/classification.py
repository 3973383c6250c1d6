"""Binary cross-entropies at video and segment level (equation 7)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError

PROBABILITY_MARGIN = 1e-7
"""Pooled probabilities are clamped to [margin, 1 - margin]: MMIL pooling does not bound the video one."""


def bounded(prob: Tensor) -> Tensor:
    """Probabilities kept off 0 and 1 by `PROBABILITY_MARGIN`, in single precision or better."""
    prob = prob.float() if prob.dtype.itemsize < 4 else prob  # 1 - 1e-7 does not exist in half precision
    return prob.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)


def video_loss(prob: Tensor, label: Tensor, reduction: Literal["mean", "none"] = "mean") -> Tensor:
    """Binary cross-entropy of a pooled probability (B, K) with a video label (B, K) in [0, 1].

    Its mean, or (B, K) without reduction.
    """
    prob = bounded(prob)
    with torch.autocast(prob.device.type, enabled=False):  # on a GPU, autocast refuses this loss in any precision
        return F.binary_cross_entropy(prob, label.to(prob.dtype), reduction=reduction)


def segment_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of segment logits (B, T, K) with segment labels (B, T, K)."""
    return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype))


def pseudo_labels(batch: Batch) -> tuple[Tensor, Tensor]:
    """The segment pseudo labels of audio and visual, (B, T, K) each.

    Raises:
        UserError: the batch has none.
    """
    if batch.pseudo_audio is None or batch.pseudo_visual is None:
        raise UserError("This objective needs segment pseudo labels, and the batch has none.")
    return batch.pseudo_audio, batch.pseudo_visual


def modality_labels(batch: Batch) -> tuple[Tensor, Tensor]:
    """The video labels of audio and visual, (B, K) each: refined ones where there are any, else the weak label."""
    audio = batch.weak if batch.weak_audio is None else batch.weak_audio
    visual = batch.weak if batch.weak_visual is None else batch.weak_visual
    return audio, visual


def smoothed(label: Tensor, smoothing: float) -> Tensor:
    """A label moved towards 1/2: (1 - smoothing) label + smoothing / 2."""
    return (1 - smoothing) * label + smoothing / 2


def modality_target(weak: Tensor, kept: Tensor, smoothing: float) -> Tensor:
    """What guides a modality: the weak label smoothed, but exactly 0 for an event that was removed from it.

    Args:
        weak: (B, K) weak labels.
        kept: (B, K) the labels that the modality keeps.
        smoothing: as in `smoothed`.
    """
    return smoothed(weak, smoothing).masked_fill((weak > 0) & (kept == 0), 0)


def check_smoothing(**values: float) -> None:
    """Refuse a smoothing that is no share.

    Raises:
        UserError: a value lies outside [0, 1]; the message names it.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}; expected a number from 0 to 1.")


def basic_losses(out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
    """The three terms of L_basic (equation 7): video level, and segment level for each modality."""
    audio, visual = out.segment_logits.unbind(dim=2)
    pseudo_audio, pseudo_visual = pseudo_labels(batch)
    return {
        "video": video_loss(out.video_prob, batch.weak),
        "segment_audio": segment_loss(audio, pseudo_audio),
        "segment_visual": segment_loss(visual, pseudo_visual),
    }
