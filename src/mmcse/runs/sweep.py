"""Sweeps: many runs by one command (Hydra's multirun), with a journal.

Every configuration is read before the first job starts (see `mmcse.configuration.register`), so that files edited
meanwhile do not matter. What a job comes to is a file in the sweep's folder: jobs may run in other processes or on
other machines, and Hydra hands none of what they return to who started it.
"""

import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from mmcse.errors import UserError
from mmcse.files import write_json

PLAN_FILE = "sweep.json"

Job = Callable[[DictConfig], float | None]
"""What Hydra calls with each configuration; its number is what a sweep compares, a run's Avg."""


class Journal(Callback):
    """Opens a sweep's journal before its first job; Hydra makes one for each command (`hydra.callbacks`)."""

    folder: ClassVar[Path | None] = None
    """Folder of this process's sweep, for who started it: Hydra keeps its callbacks to itself."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes down how many jobs there will be, and in which overrides they differ."""
        counts = _counts([*_swept(config), *config.hydra.overrides.task])
        Journal.folder = Path(config.hydra.sweep.dir)
        plan = {"jobs": math.prod(counts.values()), "varying": [key for key, count in counts.items() if count > 1]}
        write_json(Journal.folder / PLAN_FILE, plan)


def journaled(job: Job) -> Job:
    """A job that, within a sweep, says when it starts and ends, and whose failure does not end the sweep.

    Args:
        job: as Hydra would call it. Outside a sweep it is left as it is.
    """

    def noted(config: DictConfig) -> float | None:
        hydra = HydraConfig.get()
        if hydra.mode != RunMode.MULTIRUN:
            return job(config)
        folder, number = Path(hydra.sweep.dir), int(hydra.job.num)
        plan = json.loads((folder / PLAN_FILE).read_text())
        words = [word for word in hydra.overrides.task if word.partition("=")[0] in plan["varying"]]
        place = f"[{number + 1:{len(str(plan['jobs']))}}/{plan['jobs']}] {' '.join(words) or config.run.name}"
        _say(f"{place} started")
        clock, value, error = time.monotonic(), math.nan, None
        try:
            value = job(config)
        except Exception as raised:
            error = raised
        seconds = time.monotonic() - clock
        entry = {"job": number, "name": config.run.name, "overrides": words, "value": value, "seconds": seconds}
        if error is not None:
            entry |= {"error": str(error), "traceback": traceback.format_exception(error)}
            if not isinstance(error, UserError):
                traceback.print_exception(error)
        write_json(folder / f"{number}.json", entry)
        _say(f"{place} " + (f"done, Avg {value:.2f}, {seconds:.0f} s" if error is None else f"failed: {error}"))
        return value

    return noted


def conclude(folder: Path) -> str:
    """What a sweep came to, as a table of rows (names) and columns (everything else that varies).

    Raises:
        UserError: a job failed, or none came to its end; the message lists those that failed.
    """
    plan = json.loads((folder / PLAN_FILE).read_text())
    entries = [json.loads(file.read_text()) for file in folder.glob("*.json") if file.name != PLAN_FILE]
    entries.sort(key=lambda entry: entry["job"])
    failed = [entry for entry in entries if "error" in entry]
    if failed or len(entries) < plan["jobs"]:
        listed = "\n".join(f"  {entry['name']} {' '.join(entry['overrides'])}: {entry['error']}" for entry in failed)
        raise UserError(
            f"Not all jobs of the sweep succeeded: {len(entries) - len(failed)} of {plan['jobs']} did. The same "
            f"command repeats the others and skips what is finished. Failed ({folder}):\n{listed}"
        )
    return f"Avg on test of {len(entries)} runs:\n{_table(entries)}"


def _table(entries: Sequence[dict[str, Any]]) -> str:
    cells: dict[str, dict[str, str]] = {}
    for entry in entries:
        column = " ".join(word for word in entry["overrides"] if not word.startswith("experiment="))
        cells.setdefault(entry["name"], {})[column] = f"{entry['value']:.2f}"
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    widths = [max(len(column), 6) for column in columns]
    first = max(map(len, cells))
    rows = [("", columns), *((name, [row.get(column, "") for column in columns]) for name, row in cells.items())]
    return "\n".join(
        f"  {name:{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for name, row in rows
    )


def _swept(config: DictConfig) -> list[str]:
    """Overrides that the configuration itself sweeps (`hydra.sweeper.params`)."""
    return [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]


def _counts(overrides: Sequence[str]) -> dict[str, int]:
    """How many values each override takes."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {
        override.get_key_element(): len(list(override.sweep_string_iterator())) if override.is_discrete_sweep() else 1
        for override in parsed
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
