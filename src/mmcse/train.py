"""One training run: from a composed configuration to a folder with checkpoints, curves and a record."""

import logging
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from filelock import FileLock, Timeout
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from omegaconf import DictConfig, OmegaConf

from mmcse.callbacks import EpochLines, EpochSeeds, History, RunCard
from mmcse.configuration import check_calls
from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluation.fscores import SCORE_KEYS
from mmcse.evaluation.table import score_table
from mmcse.models import count_parameters
from mmcse.parser import VideoParser
from mmcse.runs.identity import run_identity
from mmcse.runs.record import environment, now, peak_memory, read_record, write_record
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The run's folder {folder} cannot be made: {error.strerror}. Choose another run.root."
        ) from None
    try:
        with FileLock(folder / ".lock", timeout=0):
            return Run(folder, _run(config, resolved, datamodule, identity, folder))
    except Timeout:
        raise UserError(
            f"Another process is training this very run in {folder}. Wait for it, or change the seed."
        ) from None


def _run(
    config: DictConfig, resolved: dict[str, Any], datamodule: AVVPDataModule, identity: str, folder: Path
) -> dict[str, Any]:
    previous = None if config.run.force else read_record(folder)
    if previous is not None and previous.get("identity") != identity:
        raise UserError(
            f"{folder} holds another run ({previous.get('identity')}, not {identity}). Choose another run.root."
        )
    if previous is not None and previous.get("status") == "ok":
        log.warning("This run has finished before; nothing to do (run.force=true repeats it): %s", folder)
        return previous

    bank = datamodule.bank
    record: dict[str, Any] = {
        "status": "running",
        "name": config.run.name,
        "identity": identity,
        "seed": config.seed,
        "tags": resolved["run"]["tags"],
        "started": now(),
        "data": {"kind": bank.kind, "digest": bank.digest, "source": bank.source},
        "config": resolved,
        "environment": environment(),
    }
    clock = time.monotonic()
    write_record(folder, record)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    try:
        _fit_and_test(config, resolved, datamodule, folder, record)
        record["status"] = "ok"
    except KeyboardInterrupt:
        record["status"] = "interrupted"
        raise
    except Exception as error:
        record |= {"status": "failed", "error": str(error), "traceback": traceback.format_exc()}
        raise
    finally:
        record |= {"finished": now(), "seconds": record.get("seconds", {}) | {"total": time.monotonic() - clock}}
        record["peak_memory_bytes"] = peak_memory()
        write_record(folder, record)
    return record


def _fit_and_test(
    config: DictConfig, resolved: dict[str, Any], datamodule: AVVPDataModule, folder: Path, record: dict[str, Any]
) -> None:
    bank = datamodule.bank
    sizes = {f"{stream}_dim": width for stream, width in bank.dims.items()}
    sizes |= {"num_classes": len(bank.classes), "num_segments": bank.num_segments}
    network = instantiate(config.model, **sizes)
    parser = VideoParser(
        network,
        instantiate(config.objective),
        num_classes=len(bank.classes),
        optimizer=instantiate(config.optimizer),
        scheduler=instantiate(config.scheduler),
        gate=config.evaluation.gate,
        threshold=config.evaluation.threshold,
    )
    record["parameters"] = dict(zip(("inference", "training_only"), count_parameters(network), strict=True))
    card = {
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
    every_epoch = {
        "dirpath": folder / "checkpoints",
        "save_on_train_epoch_end": True,  # after History has added the epoch's row
        "enable_version_counter": False,
    }
    best_epoch = ModelCheckpoint(**every_epoch, filename="best", monitor=config.evaluation.select, mode="max")
    last_epoch = ModelCheckpoint(**every_epoch, filename="last")
    history = History(folder / "history.csv")
    progress = _progress(config.run.progress)
    trainer: L.Trainer = instantiate(
        config.trainer,
        default_root_dir=str(folder),
        callbacks=[EpochSeeds(config.seed), RunCard(card), history, best_epoch, last_epoch, *progress],
        enable_progress_bar=any(isinstance(p, TQDMProgressBar) for p in progress),
    )
    record |= {"device": str(trainer.strategy.root_device), "precision": str(trainer.precision)}

    last = folder / "checkpoints" / "last.ckpt"
    resume = str(last) if last.is_file() and not config.run.force else None
    if resume:
        log.warning("Going on from the last complete epoch in %s", last)
    clock = time.monotonic()
    _uninterrupted(trainer.fit, trainer, parser, datamodule=datamodule, ckpt_path=resume)
    record["seconds"] = {"fit": time.monotonic() - clock}

    best = max(history.rows, key=lambda row: row[config.evaluation.select])
    record["selection"] = {
        "rule": f"max {config.evaluation.select}",
        "epoch": best["epoch"],
        "value": best[config.evaluation.select],
    }
    record["losses"] = {n.removeprefix("train/"): v for n, v in history.rows[-1].items() if n.startswith("train/")}
    record["scores"] = {"val": {n.removeprefix("val/"): v for n, v in best.items() if n.startswith("val/")}}
    clock = time.monotonic()
    results = _uninterrupted(trainer.test, trainer, parser, datamodule=datamodule, ckpt_path=best_epoch.best_model_path,
                             verbose=False)  # fmt: skip
    record["seconds"]["test"] = time.monotonic() - clock
    record["scores"]["test"] = {name.removeprefix("test/"): score for name, score in results[0].items()}
    record["per_class"] = parser.per_class
    record["audio_truth"] = datamodule.true_audio("test")


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
