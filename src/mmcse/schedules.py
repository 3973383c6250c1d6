"""Learning-rate schedules, one step an epoch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmcse.errors import UserError


def warmup_cosine(optimizer: Optimizer, warmup_epochs: int, max_epochs: int, final_share: float = 0.01) -> LambdaLR:
    """Linear warm-up, then half a cosine down to a final rate: VALOR's schedule, which MM-CSE follows.

    Args:
        optimizer: its own learning rate is the peak.
        warmup_epochs: epoch e of them, counted from 1, runs at e / warmup_epochs of the peak.
        max_epochs: the last of them runs at the final rate.
        final_share: the final rate, as a share of the peak.

    Raises:
        UserError: the warm-up is negative, or the share not between 0 and 1.
    """
    if warmup_epochs < 0 or not 0 <= final_share <= 1:
        raise UserError(
            f"Expected a warm-up of 0 epochs or more and a final share from 0 to 1; "
            f"found {warmup_epochs} and {final_share}."
        )

    def factor(epochs_done: int) -> float:
        epoch = epochs_done + 1
        if epoch <= warmup_epochs:
            return epoch / warmup_epochs
        progress = min(1.0, (epoch - warmup_epochs) / max(1, max_epochs - warmup_epochs))
        return final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
