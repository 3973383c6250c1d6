"""Binary cross-entropies at video and segment level (equation 7)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError

PROBABILITY_MARGIN = 1e-7
"""Pooled probabilities are clamped to [margin, 1 - margin]: MMIL pooling does not bound the video one."""


def video_loss(prob: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of a pooled probability (B, K) with a video label (B, K) in [0, 1]."""
    bounded = prob.float() if prob.dtype.itemsize < 4 else prob  # 1 - 1e-7 does not exist in half precision
    bounded = bounded.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    with torch.autocast(bounded.device.type, enabled=False):  # on a GPU, autocast refuses this loss in any precision
        return F.binary_cross_entropy(bounded, label.to(bounded.dtype))


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


def basic_losses(out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
    """The three terms of L_basic (equation 7): video level, and segment level for each modality."""
    audio, visual = out.segment_logits.unbind(dim=2)
    pseudo_audio, pseudo_visual = pseudo_labels(batch)
    return {
        "video": video_loss(out.video_prob, batch.weak),
        "segment_audio": segment_loss(audio, pseudo_audio),
        "segment_visual": segment_loss(visual, pseudo_visual),
    }
