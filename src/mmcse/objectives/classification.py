"""Binary cross-entropies at video and segment level (equation 7)."""

import torch.nn.functional as F
from torch import Tensor

PROBABILITY_MARGIN = 1e-7
"""Pooled probabilities are clamped to [margin, 1 - margin]: MMIL pooling does not bound the video probability by one."""


def video_loss(prob: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of a pooled probability (B, K) with a video label (B, K) in [0, 1]."""
    bounded = prob.float() if prob.dtype.itemsize < 4 else prob  # 1 - 1e-7 does not exist in half precision
    return F.binary_cross_entropy(bounded.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN), label.to(bounded.dtype))


def segment_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of segment logits (B, T, K) with segment labels (B, T, K)."""
    return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype))
