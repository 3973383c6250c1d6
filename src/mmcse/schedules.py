"""Learning-rate schedules, one step an epoch."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmcse.errors import UserError


def warmup_cosine(optimizer: Optimizer, warmup_epochs: int, max_epochs: int, final_lr: float) -> LambdaLR:
    """Linear warm-up, then half a cosine down to a final rate: VALOR's schedule, which MM-CSE follows.

    Args:
        optimizer: its own learning rate is the peak.
        warmup_epochs: epoch e of them, counted from 1, runs at e / warmup_epochs of the peak.
        max_epochs: the last of them runs at `final_lr`.
        final_lr: learning rate of the last epoch.

    Raises:
        UserError: the peak is not above zero, or the warm-up is negative.
    """
    peak = optimizer.defaults["lr"]
    if peak <= 0 or warmup_epochs < 0:
        raise UserError(f"Expected a peak rate above 0 and a warm-up of 0 or more; found {peak} and {warmup_epochs}.")
    final = final_lr / peak

    def factor(epochs_done: int) -> float:
        epoch = epochs_done + 1
        if epoch <= warmup_epochs:
            return epoch / warmup_epochs
        progress = min(1.0, (epoch - warmup_epochs) / max(1, max_epochs - warmup_epochs))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
