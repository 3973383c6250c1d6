"""Reconstruction loss (equation 8): the decoupled features together keep what the holistic feature held."""

import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(reconstruction: Tensor, holistic: Tensor) -> Tensor:
    """Mean-squared error over both modalities, (B, T, 2, D) each, averaged over the modalities.

    The target is not detached: the front end, too, learns to give features that can be rebuilt.
    """
    return F.mse_loss(reconstruction, holistic)
