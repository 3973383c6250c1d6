"""Randomness that depends on seed and epoch alone."""

from typing import Any

import lightning as L
import numpy as np
import torch


class EpochSeeds(L.Callback):
    """Seeds dropout anew at the start of each epoch, from the run's seed, the epoch and the process.

    A run that was interrupted and resumed therefore draws the same numbers as one that was not, without any
    generator state in its checkpoints.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds every device's generator at an epoch's first batch: a resumed epoch does not announce its start."""
        if batch_idx == 0:
            words = np.random.SeedSequence([self.seed, trainer.current_epoch, trainer.global_rank])
            torch.manual_seed(int(words.generate_state(1, np.uint64)[0]))
