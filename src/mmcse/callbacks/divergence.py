"""What a run that diverged leaves, so that the batch can be looked at and tried again."""

from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mmcse.batch import Batch
from mmcse.errors import DivergedError
from mmcse.files import write_json


class Divergence(L.Callback):
    """Stops at gradients that are not finite, and saves the batch at which training diverged.

    `diverged.json` has epoch, batch and video ids; `diverged.ckpt`, which several processes do not leave, the network
    as it met the batch. The same command
    resumes from the last complete epoch and comes to the same batch with the same numbers, as often as one likes.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.batch_file, self.checkpoint_file = folder / "diverged.json", folder / "diverged.ckpt"
        self.batch: Batch | None = None
        self.batch_idx = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Removes what an earlier attempt left."""
        if trainer.is_global_zero:
            for file in (self.batch_file, self.checkpoint_file):
                file.unlink(missing_ok=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Notes the batch, for `on_before_optimizer_step` is not told."""
        self.batch, self.batch_idx = batch, batch_idx

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Stops before the weights take a gradient that is not finite.

        Raises:
            DivergedError: they would; a loss can be finite and its gradient not.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return  # a loss scaler finds its scale by such steps, and leaves them out
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if self.batch is not None and not get_total_norm(gradients).isfinite():
            raise DivergedError("the gradients are", trainer.current_epoch, self.batch_idx, self.batch.ids)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Saves the batch at which training diverged, if that is what happened."""
        if isinstance(exception, DivergedError):
            write_json(self.batch_file, _description(exception, self.batch))
            if trainer.world_size == 1:  # of several processes only some may have diverged: the others would not come
                trainer.save_checkpoint(self.checkpoint_file)


def _description(error: DivergedError, batch: Batch | None) -> dict[str, Any]:
    streams = {} if batch is None else {name: getattr(batch, name) for name in ("audio", "visual", "motion")}
    return {
        "error": str(error),
        "epoch": error.epoch + 1,
        "batch": error.batch_idx + 1,
        "ids": error.ids,
        "largest_feature": {name: _largest(stream) for name, stream in streams.items()},
    }


def _largest(stream: Tensor) -> float:
    """Largest absolute value of a stream; null in JSON where it is not finite."""
    return float(stream.abs().max())
