"""Sweeps: many runs by one command (Hydra's multirun), with a journal.

Every configuration is read before the first job starts (see `mmcse.configuration.register`), so that files edited
meanwhile do not matter. What a job comes to is a file in the sweep's folder: jobs may run in other processes or on
other machines, and Hydra hands none of what they return to who started it.
"""

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from mmcse.errors import UserError
from mmcse.files import write_json
from mmcse.runs.sweep_table import PLAN_FILE, LiveTable, read_sweep, sweep_table

LOCK_FILE = ".lock"

Job = Callable[[DictConfig], float | None]
"""What Hydra calls with each configuration; its number is what a sweep compares, a run's Avg."""


class Journal(Callback):
    """Opens a sweep's journal before its first job; Hydra makes one for each command (`hydra.callbacks`)."""

    folder: ClassVar[Path | None] = None
    """Folder of this process's sweep, for who started it: Hydra keeps its callbacks to itself."""
    lock: ClassVar[FileLock | None] = None
    """Held as long as the command lasts."""
    table: ClassVar[LiveTable | None] = None
    """The sweep's table, where there is a terminal for it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes down which jobs there will be, and shows a table of them in a terminal."""
        folder = Journal.folder = Path(config.hydra.sweep.dir)
        jobs = _jobs([*_swept(config), *config.hydra.overrides.task])
        live = bool(jobs) and config.run.progress == "auto" and sys.stderr.isatty()
        for left in folder.glob("[0-9]*.json"):  # by an earlier sweep in the same folder
            left.unlink()
        write_json(folder / PLAN_FILE, {"name": config.run.name, "jobs": jobs, "live": live})
        Journal.lock = FileLock(folder / LOCK_FILE)
        with suppress(Timeout):
            Journal.lock.acquire(timeout=0)
        if live:
            Journal.table = LiveTable(folder, sys.stderr.fileno())

    @classmethod
    def close(cls) -> None:
        """Let go of the terminal and the folder."""
        if cls.table:
            cls.table.close()
        if cls.lock:
            cls.lock.release()
        cls.table = cls.lock = None


def is_under_way(folder: Path) -> bool:
    """Whether the command that started a sweep is still at it, as far as can be told."""
    if not (lock := folder / LOCK_FILE).is_file():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, PermissionError):  # held, or somebody else's
        return True


def journaled(job: Job) -> Job:
    """A job that, within a sweep, notes when it starts and ends, and whose failure does not end the sweep.

    Beneath a live table, what it prints goes to a file in the sweep's folder.

    Args:
        job: as Hydra would call it. Outside a sweep it is left as it is.
    """

    def noted(config: DictConfig) -> float | None:
        if (folder := sweep_folder()) is None:
            return job(config)
        number = int(HydraConfig.get().job.num)
        plan = json.loads((folder / PLAN_FILE).read_text())
        count, words = len(plan["jobs"]), plan["jobs"][number]
        place = f"[{number + 1:{len(str(count))}}/{count}] {' '.join(words) or config.run.name}"
        entry = {"name": config.run.name, "overrides": words, "state": "running", "started": time.time()}
        write_json(folder / f"{number}.json", entry)
        clock, value, error = time.monotonic(), math.nan, None
        with _output_to(folder / f"{number}.log") if plan["live"] else nullcontext():
            _say(f"{place} started")
            try:
                value = job(config)
            except Exception as raised:
                error = raised
                if not isinstance(error, UserError):
                    traceback.print_exception(error)
            seconds = time.monotonic() - clock
            _say(f"{place} " + (f"done, Avg {value:.2f}, {seconds:.0f} s" if error is None else f"failed: {error}"))
        entry |= {"state": "done", "value": value, "seconds": seconds}
        if error is not None:
            entry |= {"state": "failed", "error": str(error), "traceback": traceback.format_exception(error)}
        write_json(folder / f"{number}.json", entry)
        return value

    return noted


def sweep_folder() -> Path | None:
    """Folder of the sweep that this process runs a job of, if it does."""
    if not HydraConfig.initialized() or (hydra := HydraConfig.get()).mode != RunMode.MULTIRUN:
        return None
    return Path(hydra.sweep.dir)


def conclude(folder: Path) -> str:
    """What a sweep came to, as a table.

    Raises:
        UserError: there were no jobs, or not all came to their end; the message lists those that failed.
    """
    sweep = read_sweep(folder)
    if not sweep.jobs:
        raise UserError("The sweep has no jobs: one of its overrides, such as a glob, stands for nothing at all.")
    done, failed = len(sweep.of_state("done")), sweep.of_state("failed")
    if done < len(sweep.jobs):
        listed = "\n".join(f"  {entry['name']} {' '.join(entry['overrides'])}: {entry['error']}" for entry in failed)
        raise UserError(
            f"Not all jobs of the sweep succeeded: {done} of {len(sweep.jobs)} did. The same "
            f"command repeats the others and skips what is finished. Failed ({folder}):\n{listed}"
        )
    return "\n".join((f"Avg on test of {done} runs:", *sweep_table(sweep)))


def _swept(config: DictConfig) -> list[str]:
    """Overrides that the configuration itself sweeps (`hydra.sweeper.params`)."""
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """For each job, in Hydra's order, the overrides that tell it from the others."""
    parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(overrides))
    last = {override.get_key_element(): override for override in parsed}  # in the place of the first, as Hydra has it
    swept = {key: override for key, override in last.items() if override.is_discrete_sweep()}
    words = [[f"{key}={value}" for value in override.sweep_string_iterator()] for key, override in swept.items()]
    return [list(job) for job in product(*(choices for choices in words if len(choices) != 1))]


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Send all that this process prints, libraries below Python included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(file, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, number in zip(kept, (1, 2), strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
