"""Scoring a checkpoint: rebuild the network from what the checkpoint says of itself, and test it."""

import pickle
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mmcse.callbacks.card import CARD
from mmcse.configuration import check_calls
from mmcse.data.bank import FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluation.predictions import save_predictions
from mmcse.evaluation.table import score_table
from mmcse.files import write_json
from mmcse.parser import VideoParser


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Score a checkpoint on a split, print the table, and write what was asked for.

    Args:
        config: a composed evaluation configuration.

    Returns:
        Scores, per-class scores, and what was evaluated on what.

    Raises:
        UserError: the checkpoint or the data cannot be used, or do not fit each other.
    """
    if config.split not in ("val", "test"):
        raise UserError(f"split is {config.split!r}; expected 'val' or 'test': training videos are not annotated.")
    card, weights = read_checkpoint(Path(config.checkpoint))
    parts = OmegaConf.create(
        {
            "model": card["model"],
            "data": card["data"] if config.data is None else OmegaConf.to_container(config.data, resolve=True),
            "packages": [*card["packages"], *config.packages],
        }
    )
    check_calls(parts)
    network = instantiate(parts.model)
    network.load_state_dict(weights)
    datamodule: AVVPDataModule = instantiate(parts.data)
    bank = datamodule.bank
    _check_fit(card, bank)
    parser = VideoParser(
        network,
        lambda out, batch: {},
        num_classes=len(bank.classes),
        gate=config.gate or card["evaluation"]["gate"],
        threshold=card["evaluation"]["threshold"] if config.threshold is None else config.threshold,
    )
    trainer: L.Trainer = instantiate(config.trainer, enable_checkpointing=False, enable_progress_bar=False)
    loader = datamodule.val_dataloader() if config.split == "val" else datamodule.test_dataloader()
    [scores] = trainer.test(parser, loader, verbose=False)
    result = {
        "checkpoint": str(config.checkpoint),
        "split": config.split,
        "gate": parser.gate,
        "threshold": parser.threshold,
        "audio_truth": datamodule.true_audio(config.split),
        "data": {"kind": bank.kind, "digest": bank.digest},
        "scores": {name.removeprefix("test/"): score for name, score in scores.items()},
        "per_class": parser.per_class,
    }
    print(score_table(result["scores"], kind=bank.kind, title=f"{config.split} · {config.checkpoint}"))
    if config.json:
        write_json(config.json, result)
    if config.predictions:
        ids, audio, visual = zip(*trainer.predict(parser, loader) or (), strict=True)
        save_predictions(
            config.predictions, [i for batch in ids for i in batch], torch.cat(audio).numpy(), torch.cat(visual).numpy()
        )
    return result


def read_checkpoint(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A run's checkpoint: its card, and the weights of its network.

    Loaded weights-only: nothing in the file is executed.

    Raises:
        UserError: the file is missing, damaged, or not a checkpoint of this suite.
    """
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MissingFileError(f"There is no checkpoint at {file}.") from None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{file} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CARD), dict):
        raise UserError(
            f"{file} was not written by `mmcse train`: it does not say what network it holds. "
            "A checkpoint of the authors is made readable by `mmcse import`."
        )
    prefix = "network."
    weights = {n.removeprefix(prefix): t for n, t in checkpoint["state_dict"].items() if n.startswith(prefix)}
    return checkpoint[CARD], weights


def _check_fit(card: dict[str, Any], bank: FeatureBank) -> None:
    model = card["model"]
    found = {f"{stream}_dim": width for stream, width in bank.dims.items()}
    found["num_segments"] = bank.num_segments
    differences = [f"{name} {model[name]}, data {width}" for name, width in found.items() if model[name] != width]
    if list(bank.classes) != card["classes"]:
        differences.append(f"{len(card['classes'])} classes, data {len(bank.classes)} (or in another order)")
    if differences:
        raise UserError(
            f"The checkpoint does not fit the features in {bank.folder}: the network has "
            + "; ".join(differences)
            + "."
        )
