"""Checkpoints that say what they are."""

from numbers import Number
from pathlib import Path
from types import NoneType
from typing import Any

import lightning as L
from torch import Tensor

from mmcse.errors import UserError

CARD = "mmcse"
"""Key of the card in a checkpoint."""
CARD_FORMAT = 1
"""Format of the cards that are written; those of a later one are not read."""

_CONTENTS = {"model": dict, "evaluation": dict, "classes": list, "data": dict | NoneType}
_SIZES = ("audio_dim", "visual_dim", "motion_dim", "num_classes", "num_segments")


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


def read_card(checkpoint: dict[str, Any], file: Path) -> dict[str, Any]:
    """The card of a checkpoint, checked for holding what evaluation needs: the file may come from anywhere.

    Args:
        checkpoint: as it was loaded.
        file: where it lies, for messages.

    Raises:
        UserError: there is no card, or one of a later version of the suite, or it or the weights are not whole.
    """
    card = checkpoint.get(CARD)
    if not isinstance(card, dict):
        raise UserError(
            f"{file} was not written by `mmcse train`: it does not say what network it holds. "
            "A checkpoint of the authors is made readable by `mmcse import`."
        )
    if isinstance(written := card.get("format"), int) and written > CARD_FORMAT:
        raise UserError(f"{file} has format {written}; this version of mmcse knows up to {CARD_FORMAT}. Update mmcse.")
    wrong = [name for name, kind in _CONTENTS.items() if not isinstance(card.get(name), kind)]
    if not wrong:
        model, evaluation = card["model"], card["evaluation"]
        wrong = [f"model.{name}" for name in _SIZES if not isinstance(model.get(name), int)]
        wrong += ["model"] * (not all(isinstance(name, str) for name in model))
        wrong += ["evaluation.gate"] * (not isinstance(evaluation.get("gate"), str))
        wrong += ["evaluation.threshold"] * (not isinstance(evaluation.get("threshold"), int | float))
        wrong += ["evaluation.gate_threshold"] * (not isinstance(evaluation.get("gate_threshold"), Number | NoneType))
        wrong += ["evaluation.visual_thresholds"] * (not _is_thresholds(evaluation, len(card["classes"])))
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()):
        wrong.append("state_dict")
    if wrong:
        raise UserError(f"{file} is damaged: {', '.join(wrong)} in it is missing or of a wrong type.")
    return card


def _is_thresholds(evaluation: dict[str, Any], count: int) -> bool:
    """Whether thresholds for each class, where there are any, are as many numbers."""
    values = evaluation.get("visual_thresholds")
    if values is None:
        return True
    return isinstance(values, list) and len(values) == count and all(isinstance(value, Number) for value in values)
