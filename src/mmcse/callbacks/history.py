"""Every loss and score of every epoch, as a table on disk."""

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L

from mmcse.files import atomic_write


class History(L.Callback):
    """Keeps a row per epoch and writes them all to a CSV file.

    The rows travel inside the checkpoints: a resumed run continues the table of the epoch it resumes from, so no
    epoch is missing and none stands there twice.

    Args:
        file: the CSV file, rewritten atomically after every epoch.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []
        self.learning_rate = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the epoch's learning rate: at its end the schedule has moved on already."""
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the epoch's row; the checkpoint is written after this."""
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": self.learning_rate, **scores})
        if trainer.is_global_zero:
            self._write()

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the rows of a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(self.file) as handle:
            handle.write(text.getvalue().encode())
