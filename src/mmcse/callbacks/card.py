"""Checkpoints that say what they are."""

from typing import Any

import lightning as L

CARD = "mmcse"
"""Key of the card in a checkpoint."""


class RunCard(L.Callback):
    """Writes a card into every checkpoint: what it takes to build the network again, and where it comes from.

    Args:
        card: plain values only (dictionaries, lists, strings, numbers), so that checkpoints load weights-only.
    """

    def __init__(self, card: dict[str, Any]) -> None:
        self.card = card

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the card."""
        checkpoint[CARD] = self.card
