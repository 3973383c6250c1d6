"""One training run: from a composed configuration to a folder with checkpoints, curves and a record."""

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from omegaconf import DictConfig, OmegaConf

from mmcse.callbacks import EpochLines, EpochSeeds, History, RunCard
from mmcse.configuration import check_calls
from mmcse.data.bank import FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluation.fscores import SCORE_KEYS
from mmcse.evaluation.table import score_table
from mmcse.models import count_parameters
from mmcse.parser import VideoParser
from mmcse.runs.folder import claimed, finished, forget, recorded
from mmcse.runs.identity import run_identity
from mmcse.runs.record import environment
from mmcse.vocabulary import near_miss

CARD_FORMAT = 1
PROGRESS = ("auto", "bar", "lines", "none")

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """A finished run: where it lies and what it recorded."""

    folder: Path
    record: dict[str, Any]


def train(config: DictConfig) -> Run:
    """Train, test the best epoch, and leave a record; or find that all this was done before.

    The run's folder is `<root>/<name>/<identity>-seed<seed>`. The same configuration, data and seed lead to the same
    folder: a finished run is not repeated, an interrupted one goes on after its last complete epoch.

    Args:
        config: a composed training configuration.

    Returns:
        The folder, and the record as `result.json` holds it.

    Raises:
        UserError: something in the configuration, the data or the folder does not fit.
        KeyboardInterrupt: the user stopped the run; the record says so and the last checkpoint is kept.
    """
    check_calls(config)
    _check_settings(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=True, verbose=False)
    datamodule: AVVPDataModule = instantiate(config.data)
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    identity = run_identity(resolved, datamodule.bank.digest)
    folder = Path(config.run.root) / config.run.name / f"{identity}-seed{config.seed}"
    with claimed(folder):
        if config.run.force:
            forget(folder)
        if previous := finished(folder, identity):
            log.warning("This run has finished before; nothing to do (run.force=true repeats it): %s", folder)
            return Run(folder, previous)
        bank = datamodule.bank
        record: dict[str, Any] = {
            "name": config.run.name,
            "identity": identity,
            "seed": config.seed,
            "tags": resolved["run"]["tags"],
            "data": {"kind": bank.kind, "digest": bank.digest, "source": bank.source},
            "config": resolved,
            "environment": environment(),
        }
        with recorded(folder, record):
            _fit_and_test(config, resolved, datamodule, folder, record)
    return Run(folder, record)


def _fit_and_test(
    config: DictConfig, resolved: dict[str, Any], datamodule: AVVPDataModule, folder: Path, record: dict[str, Any]
) -> None:
    """Train and test, adding to the record what is known at each point."""
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    sizes = _sizes(datamodule.bank)
    parser = _build_parser(config, sizes)
    record["parameters"] = dict(zip(("inference", "training_only"), count_parameters(parser.network), strict=True))
    every_epoch = {
        "dirpath": folder / "checkpoints",
        "save_on_train_epoch_end": True,  # after History has added the epoch's row
        "enable_version_counter": False,
    }
    best_epoch = ModelCheckpoint(**every_epoch, filename="best", monitor=config.evaluation.select, mode="max")
    last_epoch = ModelCheckpoint(**every_epoch, filename="last")
    history = History(folder / "history.csv")
    progress = _progress(config.run.progress)
    card = RunCard(_card(resolved, sizes, datamodule.bank, record))
    trainer: L.Trainer = instantiate(
        config.trainer,
        default_root_dir=str(folder),
        callbacks=[EpochSeeds(config.seed), card, history, best_epoch, last_epoch, *progress],
        enable_progress_bar=any(isinstance(p, TQDMProgressBar) for p in progress),
    )
    record |= {"device": str(trainer.strategy.root_device), "precision": str(trainer.precision)}

    last = folder / "checkpoints" / "last.ckpt"
    resume = str(last) if last.is_file() else None
    if resume:
        log.warning("Going on from the last complete epoch in %s", last)
    clock = time.monotonic()
    _uninterrupted(trainer.fit, trainer, parser, datamodule=datamodule, ckpt_path=resume)
    record["seconds"] = {"fit": time.monotonic() - clock}

    select = config.evaluation.select
    best = max(history.rows, key=lambda row: row[select])
    record["selection"] = {"rule": f"max {select}", "epoch": best["epoch"], "value": best[select]}
    record["losses"] = _below("train/", history.rows[-1])
    record["scores"] = {"val": _below("val/", best)}
    clock = time.monotonic()
    [scores] = _uninterrupted(
        trainer.test, trainer, parser, datamodule=datamodule, ckpt_path=best_epoch.best_model_path, verbose=False
    )
    record["seconds"]["test"] = time.monotonic() - clock
    record["scores"]["test"] = _below("test/", scores)
    record["per_class"] = parser.per_class
    record["audio_truth"] = datamodule.true_audio("test")


def _sizes(bank: FeatureBank) -> dict[str, int]:
    """What a network has to know of the data."""
    widths = {f"{stream}_dim": width for stream, width in bank.dims.items()}
    return widths | {"num_classes": len(bank.classes), "num_segments": bank.num_segments}


def _build_parser(config: DictConfig, sizes: dict[str, int]) -> VideoParser:
    return VideoParser(
        instantiate(config.model, **sizes),
        instantiate(config.objective),
        num_classes=sizes["num_classes"],
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        gate=config.evaluation.gate,
        threshold=config.evaluation.threshold,
    )


def _card(resolved: dict[str, Any], sizes: dict[str, int], bank: FeatureBank, record: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: enough to build its network again and to find its data."""
    return {
        "format": CARD_FORMAT,
        "model": resolved["model"] | sizes,
        "evaluation": resolved["evaluation"],
        "packages": resolved["packages"],
        "classes": list(bank.classes),
        "data": resolved["data"],
        "data_kind": bank.kind,
        "identity": record["identity"],
        "seed": record["seed"],
    }


def _below(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """The values whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _uninterrupted(method: Any, trainer: L.Trainer, *args: Any, **kwargs: Any) -> Any:
    """Call a method of the trainer, which turns Ctrl-C into an exit and goes deaf to it; give it back as Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        return method(*args, **kwargs)
    except SystemExit as error:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, handler)


def _check_settings(config: DictConfig) -> None:
    """What would otherwise only be noticed when it is used, an epoch later or deep inside a library."""
    for name, least in (("seed", 0), ("threads", 1), ("trainer.max_epochs", 1)):
        if (value := OmegaConf.select(config, name)) is not None and value < least:
            raise UserError(f"{name} is {value}; expected {least} or more.")
    if not 0 <= config.evaluation.threshold <= 1:
        raise UserError(f"evaluation.threshold is {config.evaluation.threshold}; expected a probability from 0 to 1.")
    if config.trainer.devices not in (1, "1", "auto") and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"trainer.devices is {config.trainer.devices}: several processes are started from outside, with "
            "`torchrun --nproc-per-node=N -m mmcse train trainer.devices=N +trainer.strategy=ddp ...`."
        )
    if config.run.progress not in PROGRESS:
        raise UserError(f"run.progress is {config.run.progress!r}; expected one of {', '.join(PROGRESS)}.")
    selectable = [f"val/{name}" for name in (*SCORE_KEYS, "Avg", "video/F1", "video/F1_macro")]
    if config.evaluation.select not in selectable:
        raise UserError(
            f"evaluation.select is {config.evaluation.select!r}.{near_miss(config.evaluation.select, selectable)} "
            f"Expected one of {', '.join(selectable)}."
        )


def _progress(how: str) -> list[L.Callback]:
    if how == "none":
        return []
    return [TQDMProgressBar()] if how == "bar" or (how == "auto" and sys.stderr.isatty()) else [EpochLines()]


def summary(run: Run) -> str:
    """What a person wants to read after a run: the scores, what they are worth, and where everything lies."""
    folder, record = run
    model = record["config"]["model"]
    title = f"{record['name']}, seed {record['seed']}, best epoch {record['selection']['epoch']} of " + str(
        record["config"]["trainer"]["max_epochs"]
    )
    layers = f", layers: {model['num_layers']}" if "num_layers" in model else ""
    table = score_table(record["scores"]["test"], kind=record["data"]["kind"], title=f"test · {title}{layers}")
    return f"\n{table}\n\n  {folder}: result.json, history.csv, config.yaml, checkpoints/best.ckpt"
