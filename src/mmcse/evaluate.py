"""Scoring a checkpoint: rebuild the network from what the checkpoint says of itself, and test it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils.data import DataLoader

from mmcse.application import quieten_lightning
from mmcse.batch import Batch
from mmcse.callbacks.card import read_card
from mmcse.checkpoints import load_checkpoint
from mmcse.configuration import EvaluationSettings, check_calls, config_folder
from mmcse.data.bank import FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.data.frames import check_frames, reads_frames
from mmcse.errors import UserError, one_line
from mmcse.evaluation.breakdown import breakdown_table, duration_bins, duration_breakdown
from mmcse.evaluation.predictions import save_predictions
from mmcse.evaluation.table import score_table
from mmcse.files import write_json
from mmcse.models import kernels
from mmcse.models.checkpoint_files import load_network, network_name, stored_arguments
from mmcse.models.recognition import REFERENCES
from mmcse.parser import VideoParser
from mmcse.trainers import check_trainer
from mmcse.vocabulary import LLP_CLASSES

MOST_COUNTED = 4096
"""Largest count (of segments, layers, classes) that a checkpoint is believed though no tensor in it is as long."""


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Score a checkpoint on a split, print the table, and write what was asked for.

    Args:
        config: a composed evaluation configuration.

    Returns:
        Scores, per-class scores, and what was evaluated on what.

    Raises:
        UserError: the checkpoint or the data cannot be used, or do not fit each other.
    """
    _, parser, datamodule, loader, trainer = prepare_evaluation(config)
    bank = datamodule.bank
    by_video = config.durations or config.json or config.predictions
    if by_video and trainer.world_size > 1:
        raise UserError("durations, json and predictions take the decisions on all videos: evaluate in one process.")
    [scores] = trainer.test(parser, loader, verbose=False)
    true_audio = datamodule.true_audio(config.split)
    result = {
        "checkpoint": str(config.checkpoint),
        "split": config.split,
        "gate": parser.gate,
        "threshold": parser.threshold,
        "gate_threshold": parser.gate_threshold,
        "visual_thresholds": parser.visual_thresholds,
        "audio_truth": true_audio,
        "data": {"kind": bank.kind, "digest": bank.digest},
        "scores": {name.removeprefix("test/"): score for name, score in scores.items()},
        "classes": list(bank.classes),
        "per_class": parser.per_class,
    }
    print(score_table(result["scores"], kind=bank.kind, title=f"{config.split} · {config.checkpoint}"))
    if by_video:
        ids, *decided = zip(*trainer.predict(parser, loader) or (), strict=True)
        audio, visual = (torch.cat(batches).numpy() for batches in decided)
        truth = bank.split(config.split).arrays
        bins = duration_bins(bank.num_segments)
        by_duration = duration_breakdown(audio, visual, truth[true_audio], truth["true_visual"], bins)
        result |= {"duration_bins": [str(b) for b in bins], "per_duration": by_duration}
        print(breakdown_table(by_duration, bins))
        if config.json:
            write_json(config.json, result)
        if config.predictions:
            save_predictions(config.predictions, [i for batch in ids for i in batch], audio, visual)
    return result


class Evaluation(NamedTuple):
    """All that an evaluation needs: a checkpoint's card and parser, its data, one split of them, and a trainer."""

    card: dict[str, Any]
    parser: VideoParser
    datamodule: AVVPDataModule
    loader: DataLoader[Batch]
    trainer: L.Trainer


def prepare_evaluation(config: DictConfig) -> Evaluation:
    """Rebuild a checkpoint's parser, and open the data it is to be evaluated on.

    Args:
        config: a composed evaluation configuration.

    Raises:
        UserError: the checkpoint or the data cannot be used, or do not fit each other.
    """
    if config.split not in ("val", "test"):
        raise UserError(f"split is {config.split!r}; expected 'val' or 'test': training videos are not annotated.")
    check_trainer(config.trainer)
    kernels.use(config.kernels)
    card, weights = read_checkpoint(Path(config.checkpoint))
    network = rebuild(card, weights, config.packages)
    datamodule = _data(config, card, network)
    _check_fit(card, network, datamodule.bank)
    check_frames(type(network), datamodule.bank)
    parser = VideoParser(
        network,
        lambda out, batch: {},
        num_classes=len(datamodule.bank.classes),
        gate=config.gate or card["evaluation"]["gate"],
        threshold=card["evaluation"]["threshold"] if config.threshold is None else config.threshold,
        **_gate_thresholds(config, card),
    )
    loader = datamodule.val_dataloader() if config.split == "val" else datamodule.test_dataloader()
    quieten_lightning()
    trainer = instantiate(config.trainer, enable_checkpointing=False, enable_progress_bar=False)
    return Evaluation(card, parser, datamodule, loader, trainer)


def _gate_thresholds(config: DictConfig, card: dict[str, Any]) -> dict[str, Any]:
    """The parser's thresholds of the gate: those of the configuration where it has any, else the checkpoint's."""
    common, visual = config.gate_threshold, config.visual_thresholds
    if common is None and visual is None:
        return {name: card["evaluation"].get(name) for name in ("gate_threshold", "visual_thresholds")}
    if visual is not None and len(visual) != len(card["classes"]):
        raise UserError(
            f"visual_thresholds has {len(visual)} numbers; expected one for each of the checkpoint's "
            f"{len(card['classes'])} classes, in their order."
        )
    if wrong := [value for value in (common, *(visual or ())) if value is not None and not 0 <= value <= 1]:
        raise UserError(f"A threshold of the gate is {wrong[0]}; expected a probability from 0 to 1.")
    common = card["evaluation"].get("gate_threshold") if common is None else common
    return {"gate_threshold": common, "visual_thresholds": None if visual is None else list(visual)}


def rebuild(card: dict[str, Any], weights: dict[str, torch.Tensor], packages: Sequence[str] = ()) -> nn.Module:
    """The network that a checkpoint holds.

    Args:
        card: what the checkpoint says of itself.
        weights: of its network.
        packages: packages to trust besides this one; what the card says is not asked, for it may come from anywhere.

    Raises:
        UserError: the card names code that is not trusted or not there, or arguments that it does not take or that do
            not fit the weights.
    """
    parts = OmegaConf.create({"model": card["model"], "packages": list(packages)})
    check_calls(parts)
    _require_believable_sizes(card["model"], weights)
    stored = stored_arguments(card["model"], weights)
    try:
        with torch.device("meta"):  # without memory: what a card claims may be larger than any
            instantiate(parts.model, **stored).load_state_dict(weights, assign=True)
        network = instantiate(parts.model, **stored)
        network.load_state_dict(weights)
    except (HydraException, RuntimeError, TypeError, AttributeError) as error:
        reason = one_line(error.__cause__ or error)
        raise UserError(f"The checkpoint's weights do not fit the network that it names: {reason}") from error
    return network


def _require_believable_sizes(model: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Refuse counts (of layers, say) that would take forever to build, and that no tensor in the file bears out."""
    largest = max((max(tensor.shape, default=0) for tensor in weights.values()), default=0)
    for name, value in model.items():
        if isinstance(value, int) and value > max(largest, MOST_COUNTED):
            raise UserError(f"The checkpoint says that {name} is {value}; its largest tensor has {largest} rows.")


def read_checkpoint(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A run's checkpoint, or an imported network: its card, and the weights of its network.

    Read weights-only: nothing in the file is executed. An imported network is evaluated by the protocol of its method;
    its card names no data.

    Args:
        file: a checkpoint, or a folder that `mmcse import` wrote.

    Raises:
        UserError: the file is missing, damaged, or not a checkpoint of this suite.
    """
    if file.is_dir():
        network, arguments = load_network(file)
        return _card_of_import(network, arguments), network.state_dict()
    checkpoint = load_checkpoint(file)
    card = read_card(checkpoint, file)
    prefix = "network."
    weights = {n.removeprefix(prefix): t for n, t in checkpoint["state_dict"].items() if n.startswith(prefix)}
    return card, weights


def _card_of_import(network: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
    method = REFERENCES[network_name(network)].method
    protocol = OmegaConf.load(config_folder() / "model" / f"{method}.yaml").evaluation
    return {
        "model": {"_target_": f"{type(network).__module__}.{type(network).__name__}", **arguments},
        "evaluation": {
            "gate": protocol.gate,
            "threshold": protocol.get("threshold", EvaluationSettings.threshold),
            "gate_threshold": protocol.get("gate_threshold"),
        },
        "classes": list(LLP_CLASSES),
        "data": None,
    }


def _data(config: DictConfig, card: dict[str, Any], network: nn.Module) -> AVVPDataModule:
    settings = card["data"] if config.data is None else OmegaConf.to_container(config.data, resolve=True)
    if settings is None:
        model, resnet = card["model"], "llp_vggish_resnet" + ("_frames" if reads_frames(type(network)) else "")
        raise UserError(
            f"{config.checkpoint} was imported and names no data; its features are {model['audio_dim']} (audio) and "
            f"{model['visual_dim']} (visual) numbers wide. Add data=llp_clip_clap (768, 768) or data={resnet} "
            "(128, 2048) with data.bank.features=... data.bank.annotations=..., or data=bank data.bank=..."
        )
    parts = OmegaConf.create({"data": settings, "packages": list(config.packages)})
    check_calls(parts)
    return instantiate(parts.data)


def _check_fit(card: dict[str, Any], network: nn.Module, bank: FeatureBank) -> None:
    model, unread = card["model"], getattr(network, "unread_streams", ())
    found = {f"{stream}_dim": width for stream, width in bank.dims.items() if stream not in unread}
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
