"""Orthogonality loss (equation 9): event features share little with the background feature of their segment."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

VisualOrthogonality = Literal["class_mean", "per_class"]
"""Visual cosine of the mean over classes (reference code), or of every class as for audio (the paper's words)."""


def orthogonality_loss(events: Tensor, background: Tensor, visual: VisualOrthogonality = "class_mean") -> Tensor:
    """Mean cosine similarity of event and background features, summed over the modalities.

    Args:
        events: (B, T, 2, K, d) decoupled event features.
        background: (B, T, 2, d) decoupled background features.
        visual: which cosine the visual modality uses.
    """
    audio_events, visual_events = events.unbind(dim=2)
    audio_background, visual_background = background.unsqueeze(-2).unbind(dim=2)
    if visual == "class_mean":
        visual_events = visual_events.mean(dim=-2, keepdim=True)
    of_audio = F.cosine_similarity(audio_events, audio_background, dim=-1).mean()
    return of_audio + F.cosine_similarity(visual_events, visual_background, dim=-1).mean()
