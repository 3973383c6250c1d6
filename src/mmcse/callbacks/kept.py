"""Epochs that are kept besides the best and the last one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L


class BestOf(L.Callback):
    """Keeps the epochs that are best by the mean of some scores, each as a checkpoint.

    Args:
        folder: of the checkpoints.
        kept: name of a checkpoint -> the scores, as they are logged, whose mean must rise.
    """

    def __init__(self, folder: Path, kept: Mapping[str, Sequence[str]]) -> None:
        self.folder, self.kept = folder, kept
        self.best: dict[str, dict[str, float]] = {}
        """Name -> "epoch", from 1, and "value" of the best so far."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch where it is the best yet; of equal ones, the first is kept."""
        for name, scores in self.kept.items():
            value = sum(float(trainer.callback_metrics[score]) for score in scores) / len(scores)
            if name not in self.best or value > self.best[name]["value"]:
                self.best[name] = {"epoch": trainer.current_epoch + 1, "value": value}
                trainer.save_checkpoint(self.folder / f"{name}.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best": {name: dict(found) for name, found in self.best.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the best of a checkpoint."""
        self.best = {name: dict(found) for name, found in state_dict["best"].items()}


class EarlyEpoch(L.Callback):
    """Keeps the state after a certain epoch, or after the last one where there are fewer.

    Args:
        file: the checkpoint.
        epoch: counted from 1.
    """

    def __init__(self, file: Path, epoch: int) -> None:
        self.file, self.epoch = file, epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the epoch if it is the one."""
        epoch = trainer.current_epoch + 1
        is_last = trainer.should_stop or epoch == trainer.max_epochs
        if epoch == self.epoch or (is_last and epoch < self.epoch):
            trainer.save_checkpoint(self.file)
