"""Progress as plain lines, for logs and batch systems."""

import sys
import time

import lightning as L


class EpochLines(L.Callback):
    """Prints a line an epoch: where training stands, what it has reached, how long it will take."""

    def __init__(self) -> None:
        self.started = 0.0
        self.first_epoch = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self.started, self.first_epoch = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the epoch's line."""
        if not trainer.is_global_zero:
            return
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        seconds = (time.monotonic() - self.started) / (epoch - self.first_epoch)
        metrics = trainer.callback_metrics
        shown = [
            f"{label} {float(metrics[name]):.{digits}f}"
            for label, name, digits in (("loss", "train/total", 4), ("val Type", "val/segment/Type", 2))
            if name in metrics
        ]
        left = max(0, last - epoch) * seconds
        line = "  ".join((f"epoch {epoch}/{last}", *shown, f"{seconds:.1f} s an epoch", f"{left:.0f} s left"))
        print(line, file=sys.stderr, flush=True)
