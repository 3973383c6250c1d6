"""The end of a training that gets no better."""

import logging

import lightning as L

from mmcse.callbacks.history import History

log = logging.getLogger(__name__)


class Patience(L.Callback):
    """Ends a training after so many epochs without a better score; an equal one is not better.

    All it knows is in the history, whose rows travel inside the checkpoints: a resumed run ends where it would have.

    Args:
        history: of the training; stands before this among the callbacks.
        score: the column that must rise.
        epochs: how many may pass.
    """

    def __init__(self, history: History, score: str, epochs: int) -> None:
        self.history, self.score, self.epochs = history, score, epochs

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends a training that was interrupted after its last epoch."""
        self._end(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the training if this epoch was the last one to wait for."""
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        scores = [row[self.score] for row in self.history.rows]
        if scores and len(scores) - 1 - scores.index(max(scores)) >= self.epochs:
            log.warning("Training ends after epoch %d: %s did not rise for %d.", len(scores), self.score, self.epochs)
            trainer.should_stop = True
