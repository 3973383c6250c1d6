"""Methods that are trained in several stages, as one command.

The `stages` of a configuration are what comes before its own training, in order:

    stages:
      estimator:                         # the stage's name, and its folder below the run's name
        changes:                         # to the configuration; what has a `_target_` is replaced, the rest is merged
          objective: {_target_: ...}
        makes: {_target_: ..., _partial_: true}    # makes a file from the stage's network, see `Maker`
        file: noise_ratios.json          # its name
        feeds: objective.noise_ratios    # the key that names the file from then on

Each stage is a run of its own, with a folder, a record and an identity. A finished one is not repeated, an interrupted
one goes on. The file counts in the identity of what comes after it by its content (`mmcse.runs.identity.FILES`). Where
the user gives the file, the stage is left out, and the run is what it would be without such a stage.

A changed value that refers to its own place (`${objective.contrast}` at objective.contrast, or `oc.select` of it) is
what the whole has there. All other references are to the stage's own values.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from mmcse.data.datamodule import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.runs.folder import CHECKPOINTS, claimed, is_first_process
from mmcse.runs.identity import FILES

KEYS = {"changes", "makes", "file", "feeds"}

log = logging.getLogger(__name__)


class Maker(Protocol):
    """Makes what a stage leaves."""

    def __call__(self, network: nn.Module, datamodule: AVVPDataModule, seed: int, file: Path) -> None:
        """Write the file, completely or not at all.

        Args:
            network: the stage's, as of its best epoch, in evaluation mode.
            datamodule: the data it was trained on.
            seed: of the run.
            file: where to write.
        """
        ...


def run_stages(config: DictConfig, train: Callable[[DictConfig], Any]) -> DictConfig:
    """Run every stage, or find that it was run before.

    Args:
        config: a composed training configuration.
        train: `mmcse.train.train`.

    Returns:
        The configuration, naming the files that the stages have left.

    Raises:
        UserError: a stage is not as it should be, or whatever its training finds wrong.
        KeyboardInterrupt: the user stopped a stage; the same command goes on from there.
    """
    for name, stage in config.stages.items():
        _check(str(name), stage)
    config = _without_given(config)
    stages: DictConfig | dict[Any, Any] = config.stages or {}
    for number, (name, stage) in enumerate(stages.items(), start=1):
        log.warning("Stage %d of %d: %s", number, len(stages) + 1, name)
        staged = stage_config(config, str(name))
        file = _made(stage, train(staged).folder, staged)
        OmegaConf.update(config, stage.feeds, str(file), force_add=True)
    if stages:
        log.warning("Stage %d of %d: %s", len(stages) + 1, len(stages) + 1, config.run.name)
    return config


def _without_given(config: DictConfig) -> DictConfig:
    """A copy of the configuration with those stages whose file it does not name already."""
    config, left = config.copy(), {}
    for name, stage in config.stages.items():
        if (given := OmegaConf.select(config, stage.feeds)) is None:
            left[name] = stage
        else:
            log.warning("Stage %s is left out: %s is given, as %s", name, stage.feeds, given)
    config.stages = left or None
    return config


def stage_config(config: DictConfig, name: str) -> DictConfig:
    """What a stage is trained with.

    Args:
        config: the configuration of the whole, naming what earlier stages have left.
        name: of the stage.
    """
    changes = config.stages[name].changes or {}
    staged = config.copy()
    with open_dict(staged):
        for key, change in changes.items():
            if isinstance(change, DictConfig):
                change = OmegaConf.merge(change, _of_whole(str(key), change))
            merges = isinstance(change, DictConfig) and "_target_" not in change
            staged[key] = OmegaConf.merge(staged[key], change) if merges else change
        staged.run.name = f"{config.run.name}/{name}"
        staged.stages = None
    return staged


def _of_whole(part: str, change: DictConfig) -> dict[str, Any]:
    """The values of a changed part that refer to their own place, as the whole has them."""
    written: dict[str, Any] = OmegaConf.to_container(change)  # type: ignore[assignment]
    return {
        key: change[key]
        for key, value in written.items()
        if OmegaConf.is_interpolation(change, key) and re.search(rf"\b{re.escape(f'{part}.{key}')}\b", value)
    }


def _made(stage: DictConfig, folder: Path, config: DictConfig) -> Path:
    """The file that a finished stage leaves, made where it is missing. Other settings of its maker make another one.

    Args:
        stage: its entry among the `stages`.
        folder: of its run.
        config: what it was trained with; its file is made on batches of the same size.
    """
    settings = json.dumps(OmegaConf.to_container(stage.makes, resolve=True), sort_keys=True)
    suffix = hashlib.sha256(settings.encode()).hexdigest()[:6]
    file = folder / f"{Path(stage.file).stem}-{suffix}{Path(stage.file).suffix}"
    if is_first_process() and not file.exists():
        with claimed(folder):
            card, weights = read_checkpoint(folder / CHECKPOINTS / "best.ckpt")
            network = rebuild(card, weights, config.packages).eval()
            instantiate(stage.makes)(network, instantiate(config.data), config.seed, file)
    while not file.exists():  # the first process makes it for all
        time.sleep(1)
    return file


def _check(name: str, stage: Any) -> None:
    if not isinstance(stage, DictConfig):
        raise UserError(f"stages.{name} is {stage!r}; expected {', '.join(sorted(KEYS))}.")
    if set(stage) != KEYS:
        raise UserError(f"stages.{name} has {sorted(map(str, stage))}; expected {', '.join(sorted(KEYS))}.")
    if stage.feeds not in FILES:
        raise UserError(f"stages.{name}.feeds is {stage.feeds!r}; expected one of {', '.join(FILES)}.")
