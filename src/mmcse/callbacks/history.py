"""Every loss and score of every epoch, as a table on disk."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write

Rows = Sequence[dict[str, float]]
"""Losses and scores of each epoch so far, by name."""
Mirror = Callable[[Rows], None]
"""What is called with all rows after every epoch."""


class History(L.Callback):
    """Keeps a row per epoch and writes them all to a CSV file.

    The rows travel inside the checkpoints: a resumed run continues the table of the epoch it resumes from, so no
    epoch is missing and none stands there twice.

    Args:
        file: the CSV file, rewritten atomically after every epoch.
        mirror: what else is shown the rows; None is nobody.
    """

    def __init__(self, file: Path, mirror: Mirror | None = None) -> None:
        self.file, self.mirror = file, mirror
        self.rows: list[dict[str, float]] = []
        self.learning_rate = 0.0
        self.seconds = 0.0
        """What the epochs of the rows took, those before a resumption too."""
        self._since = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._since = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the epoch's learning rate: at its end the schedule has moved on already."""
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Adds the epoch's row; the checkpoint is written after this."""
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": self.learning_rate, **scores})
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        if trainer.is_global_zero:
            self._write()
            if self.mirror:
                self.mirror(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and their seconds."""
        return {"rows": [dict(row) for row in self.rows], "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the rows of a checkpoint."""
        self.rows, self.seconds = [dict(row) for row in state_dict["rows"]], state_dict["seconds"]

    def _write(self) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_write(self.file) as handle:
            handle.write(text.getvalue().encode())


def read_history(file: Path) -> dict[str, np.ndarray]:
    """The columns of a history, each with a value for every epoch; nan where an epoch has none.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not a table of numbers.
    """
    try:
        with file.open(newline="", encoding="utf-8") as handle:
            names, *rows = list(csv.reader(handle)) or [[]]
        columns = zip(*([float(cell or "nan") for cell in row] for row in rows), strict=True)
        return {name: np.array(column) for name, column in zip(names, columns, strict=True)} if rows else {}
    except FileNotFoundError:
        raise MissingFileError(f"There is no history of a training at {file}.") from None
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(f"{file} is not a history as `mmcse train` writes it: {error}.") from error
