"""One training run: from a composed configuration to a folder with checkpoints, curves and a record."""

import logging
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from hydra.utils import get_method, instantiate
from lightning.pytorch.callbacks import TQDMProgressBar
from omegaconf import DictConfig, OmegaConf

from mmcse.callbacks import BestOf, Divergence, EpochLines, EpochSeeds, History, RunCard
from mmcse.callbacks.card import CARD_FORMAT
from mmcse.callbacks.compilation import Compilation
from mmcse.callbacks.history import Mirror
from mmcse.checkpoints import CheckpointFiles
from mmcse.configuration import check_calls
from mmcse.data.bank import FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.data.frames import check_frames, reads_frames
from mmcse.errors import UserError
from mmcse.evaluation.table import score_table
from mmcse.files import atomic_write
from mmcse.models import count_parameters, kernels
from mmcse.parser import VideoParser
from mmcse.required import require_values
from mmcse.runs.folder import CHECKPOINTS, claimed, finished, forget, is_first_process, num_processes, recorded
from mmcse.runs.identity import file_digests, run_identity
from mmcse.runs.record import environment
from mmcse.selection import (
    BEST_FILE,
    check_selection,
    paired,
    search_thresholds,
    selected,
    selection_callbacks,
)
from mmcse.stages import run_stages
from mmcse.tracking import mirrored
from mmcse.trainers import check_trainer

MADE_UP = "made-up label embeddings"
"""Tag of the records of LEAP's runs that were given none."""
PROGRESS = ("auto", "bar", "lines", "none")
MOST_SEED = 2**32 - 1
WHOLE_EPOCHS = {"check_val_every_n_epoch": 1, "max_steps": -1, "max_time": None}
"""Settings of Lightning's trainer that end an epoch early or leave its validation out, as they have to be."""

log = logging.getLogger(__name__)


class Run(NamedTuple):
    """A finished run: where it lies and what it recorded."""

    folder: Path
    record: dict[str, Any]


def train(config: DictConfig) -> Run:
    """Train, test the best epoch, and leave a record; or find that all this was done before.

    The run's folder is `<root>/<name>/<identity>-seed<seed>`. The same configuration, data and seed lead to the same
    folder: a finished run is not repeated, an interrupted one goes on after its last complete epoch. Where a method has
    earlier stages, they are run first, each as a run of its own (`mmcse.stages`).

    Args:
        config: a composed training configuration.

    Returns:
        The folder, and the record as `result.json` holds it.

    Raises:
        UserError: something in the configuration, the data or the folder does not fit.
        KeyboardInterrupt: the user stopped the run; the record says so and the last checkpoint is kept.
    """
    require_values(config)
    check_calls(config)
    _check_settings(config)
    if reads_frames(network := get_method(config.model._target_)):  # before the hours that stages may take
        check_frames(network, instantiate(config.data).bank)
    if config.stages:
        config = run_stages(config, train)
    if config.threads:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, workers=True, verbose=False)
    datamodule: AVVPDataModule = instantiate(config.data)
    if config.evaluation.select_on_test:
        datamodule.validated = "test"
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    files = file_digests(resolved)
    identity = run_identity(resolved, datamodule.bank.digest, files, num_processes())
    folder = Path(config.run.root) / config.run.name / f"{identity}-seed{config.seed}"
    with claimed(folder):
        if config.run.force:
            forget(folder)
        elif previous := finished(folder, identity):
            log.warning("This run has finished before; nothing to do (run.force=true repeats it): %s", folder)
            return Run(folder, previous)
        in_kernels = kernels.use(config.kernels)
        bank = datamodule.bank
        record: dict[str, Any] = {
            "name": config.run.name,
            "identity": identity,
            "seed": config.seed,
            "tags": [*resolved["run"]["tags"], *([MADE_UP] if _is_made_up(resolved) else [])],
            "data": {"kind": bank.kind, "digest": bank.digest, "source": bank.source},
            "config": resolved,
            **({"files": files} if files else {}),
            "environment": environment(),
            **({"kernels": in_kernels} if config.kernels else {}),
        }
        with mirrored(instantiate(config.logger), folder, record, bank) as mirror, recorded(folder, record):
            _fit_and_test(config, resolved, datamodule, folder, record, mirror)
    return Run(folder, record)


def _fit_and_test(
    config: DictConfig,
    resolved: dict[str, Any],
    datamodule: AVVPDataModule,
    folder: Path,
    record: dict[str, Any],
    mirror: Mirror | None,
) -> None:
    """Train and test, adding to the record what is known at each point."""
    if is_first_process():  # no other one writes before training has brought them together: this one clears the folder
        with atomic_write(folder / "config.yaml") as file:
            file.write(OmegaConf.to_yaml(config, resolve=True).encode())
    sizes = _sizes(datamodule.bank)
    parser = _build_parser(config, sizes)
    record["parameters"] = dict(zip(("inference", "training_only"), count_parameters(parser.network), strict=True))
    history = History(folder / "history.csv", mirror)
    kept = selection_callbacks(config.evaluation, folder / CHECKPOINTS, history)
    progress = _progress(config.run.progress)
    card = RunCard(_card(resolved, sizes, datamodule.bank, record))
    trainer: L.Trainer = instantiate(
        config.trainer,
        default_root_dir=str(folder),
        plugins=[CheckpointFiles()],
        callbacks=[
            *([Compilation()] if config.compile else []),
            *(EpochSeeds(config.seed), Divergence(folder), card, history, *kept, *progress),
        ],
        enable_progress_bar=any(isinstance(p, TQDMProgressBar) for p in progress),
    )
    record |= {"device": str(trainer.strategy.root_device), "precision": str(trainer.precision)}

    last = folder / CHECKPOINTS / "last.ckpt"
    resume = str(last) if last.is_file() and not config.run.force else None  # another process may yet see one forgotten
    if resume:
        log.warning("Going on from the last complete epoch in %s", last)
    _uninterrupted(trainer.fit, trainer, parser, datamodule=datamodule, ckpt_path=resume)
    record["seconds"] = {"fit": history.seconds}

    best, record["selection"] = selected(history.rows, config.evaluation)
    if len(history.rows) < config.trainer.max_epochs:
        record["selection"]["ended"] = len(history.rows)
    record["losses"] = _below("train/", history.rows[-1])
    record["scores"] = {"val": _below("val/", best)}
    clock = time.monotonic()
    if config.evaluation.search_thresholds:
        record["visual_thresholds"] = search_thresholds(parser, datamodule, folder / CHECKPOINTS)
    tested = str(folder / CHECKPOINTS / BEST_FILE)
    if config.evaluation.test_pair:
        [pair] = [callback for callback in kept if isinstance(callback, BestOf)]
        parser, tested = paired(parser, pair.best, folder / CHECKPOINTS), None
        record["selection"]["pair"] = pair.best
        [scores] = _uninterrupted(trainer.validate, trainer, parser, datamodule=datamodule, verbose=False)
        record["scores"] = {"val": _below("val/", scores)}
    [scores] = _uninterrupted(trainer.test, trainer, parser, datamodule=datamodule, ckpt_path=tested, verbose=False)
    record["seconds"]["test"] = time.monotonic() - clock
    record["scores"]["test"] = _below("test/", scores)
    record["per_class"] = parser.per_class
    record["audio_truth"] = datamodule.true_audio("test")


def _is_made_up(resolved: dict[str, Any]) -> bool:
    """Whether random directions stand in for what the network should know of the class names."""
    return resolved["model"].get("label_embeddings", "") is None


def _sizes(bank: FeatureBank) -> dict[str, int]:
    """What a network has to know of the data."""
    widths = {f"{stream}_dim": width for stream, width in bank.dims.items()}
    return widths | {"num_classes": len(bank.classes), "num_segments": bank.num_segments}


def _build_parser(config: DictConfig, sizes: dict[str, int]) -> VideoParser:
    return VideoParser(
        instantiate(config.model, **sizes),
        instantiate(config.objective),
        num_classes=sizes["num_classes"],
        optimizer=instantiate(config.optimizer, _convert_="all"),  # its state in checkpoints: plain lists and numbers
        scheduler=instantiate(config.scheduler),
        gate=config.evaluation.gate,
        threshold=config.evaluation.threshold,
        micro_batch=config.micro_batch,
        gate_threshold=config.evaluation.gate_threshold,
        rates=config.rates,
    )


def _card(resolved: dict[str, Any], sizes: dict[str, int], bank: FeatureBank, record: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself: enough to build its network again and to find its data."""
    return {
        "format": CARD_FORMAT,
        "model": resolved["model"] | sizes,
        "evaluation": resolved["evaluation"],
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
    for name, least in (("seed", 0), ("threads", 1), ("micro_batch", 1), ("trainer.max_epochs", 1)):
        if (value := OmegaConf.select(config, name)) is not None and value < least:
            raise UserError(f"{name} is {value}; expected {least} or more.")
    if config.seed > MOST_SEED:
        raise UserError(f"seed is {config.seed}; expected {MOST_SEED} or less.")
    for name, usual in WHOLE_EPOCHS.items():
        if (value := OmegaConf.select(config.trainer, name, default=usual)) != usual:
            raise UserError(f"trainer.{name} is {value}: a run consists of whole epochs, each of which is validated.")
    if OmegaConf.select(config.trainer, "limit_val_batches") == 0:
        raise UserError("trainer.limit_val_batches is 0: every epoch is validated, for one is selected.")
    check_trainer(config.trainer)
    check_selection(config.evaluation)
    if config.run.progress not in PROGRESS:
        raise UserError(f"run.progress is {config.run.progress!r}; expected one of {', '.join(PROGRESS)}.")


def _progress(how: str) -> list[L.Callback]:
    if how == "none":
        return []
    return [TQDMProgressBar()] if how == "bar" or (how == "auto" and sys.stderr.isatty()) else [EpochLines()]


def summary(run: Run) -> str:
    """What a person wants to read after a run: the scores, what they are worth, and where everything lies."""
    folder, record = run
    model = record["config"]["model"]
    selection = record["selection"]
    last = selection.get("ended", record["config"]["trainer"]["max_epochs"])
    best = f"best epoch {selection['epoch']}"
    if pair := selection.get("pair"):
        best = "best epochs " + ", ".join(f"{found['epoch']} ({modality})" for modality, found in pair.items())
    title = f"{record['name']}, seed {record['seed']}, {best} of {last}"
    layers = f", layers: {model['num_layers']}" if "num_layers" in model else ""
    marked = ", SELECTED ON TEST" if record["config"]["evaluation"]["select_on_test"] else ""
    marked += f", {MADE_UP.upper()}" if _is_made_up(record["config"]) else ""
    table = score_table(record["scores"]["test"], kind=record["data"]["kind"], title=f"test · {title}{layers}{marked}")
    return f"\n{table}\n\n  {folder}: result.json, history.csv, config.yaml, checkpoints/best.ckpt"
