"""Which epochs of a training are kept, and what is tested in the end."""

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from torch import Tensor

from mmcse.callbacks import BestOf, EarlyEpoch, History, Patience
from mmcse.callbacks.card import CARD
from mmcse.checkpoints import CheckpointFiles, load_checkpoint
from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.evaluation.fscores import SCORE_KEYS
from mmcse.evaluation.thresholds import search_visual_thresholds
from mmcse.models.dhhn import DHHN, DHHNPair
from mmcse.parser import VideoParser
from mmcse.runs.folder import is_first_process
from mmcse.vocabulary import near_miss

LAST = "last"
"""The rule that keeps the last epoch, whatever it scores."""
BEST_FILE, EARLY_FILE = "best.ckpt", "early.ckpt"
PAIR = {m: [f"val/{level}/{m[0].upper()}" for level in ("segment", "event")] for m in ("audio", "visual")}
"""By what the two epochs of a tested pair are chosen (DHHN): the mean of the scores of a modality."""

Row = Mapping[str, float]


def check_selection(evaluation: DictConfig) -> None:
    """Refuse what cannot select an epoch.

    Raises:
        UserError: the rule is unknown, a probability is none, an epoch lies before the first, or patience has no score.
    """
    for name in ("threshold", "gate_threshold"):
        if evaluation[name] is not None and not 0 <= evaluation[name] <= 1:
            raise UserError(f"evaluation.{name} is {evaluation[name]}; expected a probability from 0 to 1.")
    if (epoch := evaluation.search_thresholds) is not None and epoch < 1:
        raise UserError(f"evaluation.search_thresholds is {epoch}; expected an epoch, from 1.")
    if (epochs := evaluation.patience) is not None and epochs < 1:
        raise UserError(f"evaluation.patience is {epochs}; expected a number of epochs, from 1.")
    if epochs is not None and evaluation.select == LAST:
        raise UserError(
            f"evaluation.patience is {epochs}, and evaluation.select=last looks at no score that could get better. "
            "Select by a score, or set evaluation.patience=null."
        )
    selectable = [*(f"val/{name}" for name in (*SCORE_KEYS, "Avg", "video/F1", "video/F1_macro")), LAST]
    if evaluation.select not in selectable:
        raise UserError(
            f"evaluation.select is {evaluation.select!r}.{near_miss(evaluation.select, selectable)} "
            f"Expected one of {', '.join(selectable)}."
        )


def selection_callbacks(evaluation: DictConfig, folder: Path, history: History) -> list[L.Callback]:
    """What keeps epochs while training, `best.ckpt`, `last.ckpt`, and what the method wants besides; and what ends it.

    Args:
        evaluation: that part of a training configuration.
        folder: of the checkpoints.
        history: of the training.
    """
    every_epoch: dict[str, Any] = {
        "dirpath": folder,
        "save_on_train_epoch_end": True,  # after History has added the epoch's row
        "enable_version_counter": False,
    }
    monitor = "epoch" if evaluation.select == LAST else evaluation.select
    callbacks: list[L.Callback] = [
        _BestCheckpoint(**every_epoch, filename="best", monitor=monitor, mode="max"),
        ModelCheckpoint(**every_epoch, filename="last"),
    ]
    if evaluation.search_thresholds:
        callbacks.insert(0, EarlyEpoch(folder / EARLY_FILE, evaluation.search_thresholds))
    if evaluation.test_pair:
        callbacks.insert(0, BestOf(folder, PAIR))
    if evaluation.patience:
        callbacks.insert(0, Patience(history, monitor, evaluation.patience))
    return callbacks


class _BestCheckpoint(ModelCheckpoint):
    """Of epochs with the same score it keeps the last, as HAN's code does, and most that are made of it."""

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether an epoch of this score is kept."""
        is_best = super().check_monitor_top_k(trainer, current)
        return is_best or bool(current is not None and current == self.best_model_score)


def selected(rows: Sequence[Row], evaluation: Mapping[str, Any]) -> tuple[Row, dict[str, Any]]:
    """The row of the epoch that `best.ckpt` holds, and what the record says about it."""
    rule = evaluation["select"]
    if rule == LAST:
        return rows[-1], {"rule": "last epoch", "epoch": rows[-1]["epoch"]}
    best = max(reversed(rows), key=lambda row: row[rule])
    said = {"rule": f"max {rule}", "epoch": best["epoch"], "value": best[rule]}
    if evaluation["select_on_test"]:
        said["rule"] += ", of the TEST videos (as published; no estimate of anything)"
    return best, said


def search_thresholds(parser: VideoParser, datamodule: AVVPDataModule, folder: Path) -> list[float]:
    """Search the thresholds of the visual gate for each class, and have parser and `best.ckpt` use them (CMPAE).

    Args:
        parser: after training; its weights are replaced.
        datamodule: the data; thresholds are searched on validation.
        folder: of the checkpoints.

    Returns:
        The K thresholds.
    """
    parser.network.load_state_dict(read_checkpoint(folder / EARLY_FILE)[1])
    parser.network.eval()
    videos = datamodule.bank.split("val")  # also where epochs are selected on test; all videos, in every process
    visible, prob, true = [], [], []
    with torch.no_grad():
        for batch in videos.batches(datamodule.eval_batch_size):
            batch = batch.to(parser.device)
            assert batch.true_visual is not None  # else it could not have been validated
            out = parser(batch.audio, batch.visual, batch.motion)
            visible.append(out.segment_prob[:, :, 1] >= parser.threshold)
            prob.append(out.visual_prob)
            true.append(batch.true_visual > 0)
    arrays = [torch.cat(parts).cpu().numpy() for parts in (visible, prob, true)]
    thresholds = search_visual_thresholds(arrays[0], arrays[1], arrays[2], default=parser.gate_threshold)
    parser.visual_thresholds = thresholds.tolist()
    best = load_checkpoint(folder / BEST_FILE)
    best[CARD]["evaluation"]["visual_thresholds"] = thresholds.tolist()
    _replace_best(best, folder)
    return thresholds.tolist()


def _replace_best(checkpoint: dict[str, Any], folder: Path) -> None:
    """Write another `best.ckpt`; of several processes the first one does, and none goes on before it has."""
    if is_first_process():
        CheckpointFiles().save_checkpoint(checkpoint, folder / BEST_FILE)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def paired(parser: VideoParser, best: Mapping[str, Any], folder: Path) -> VideoParser:
    """The pair of networks that DHHN is tested as; it becomes `best.ckpt`, in place of the best epoch alone.

    Args:
        parser: after training; the pair is evaluated as it is.
        best: what `BestOf` found.
        folder: of the checkpoints.

    Raises:
        UserError: the network is not DHHN's.
    """
    if not isinstance(parser.network, DHHN):
        raise UserError(f"evaluation.test_pair is for the network of DHHN, not for {type(parser.network).__name__}.")
    card, _ = read_checkpoint(folder / f"{next(iter(best))}.ckpt")
    states = {name: read_checkpoint(folder / f"{name}.ckpt")[1] for name in best}
    weights = {
        f"{modality}_{name}": tensor
        for modality, state in states.items()
        for name, tensor in state.items()
        if name.startswith("parser.")
    }
    arguments = {name: value for name, value in card["model"].items() if name in signature(DHHNPair).parameters}
    card["model"] = {"_target_": f"{DHHNPair.__module__}.{DHHNPair.__name__}", **arguments}
    file = {CARD: card, "state_dict": {f"network.{name}": tensor for name, tensor in weights.items()}}
    _replace_best(file, folder)
    return VideoParser(
        rebuild(card, weights),
        parser.objective,
        num_classes=len(card["classes"]),
        gate=parser.gate,
        threshold=parser.threshold,
        gate_threshold=parser.gate_threshold,
    )
