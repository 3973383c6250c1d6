"""A sweep as a table of rows and seeds, read from its journal: while it runs, from elsewhere, and at its end."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

from mmcse.errors import MissingFileError, UserError

PLAN_FILE = "sweep.json"
REPLICATES = ("seed", "data.bank.world")
"""What varies between the columns of a table; everything else makes rows."""


class Sweep(NamedTuple):
    """What a sweep's folder says: the plan, and how far each job is that has started."""

    name: str
    """Of the runs, where no experiment names them."""
    jobs: Sequence[Sequence[str]]
    """For each job, the overrides (`key=value`) that tell it from the others."""
    entries: dict[int, dict[str, Any]]
    """By number of the job: `name`, `overrides`, `state` (running, done, failed), `started` (seconds since 1970), and
    in the end `seconds`, and `value` or `error`."""

    def of_state(self, state: str) -> list[dict[str, Any]]:
        """The entries of all jobs in a state, in order."""
        return [entry for entry in self.entries.values() if entry["state"] == state]


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep's journal.

    Raises:
        MissingFileError: the folder is not that of a sweep.
        UserError: an earlier version of the suite has written it.
    """
    try:
        plan = json.loads((folder / PLAN_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{folder} is not the folder of a sweep: there is no {PLAN_FILE} in it.") from None
    if "name" not in plan:
        raise UserError(f"{folder} was written by an earlier version of mmcse; its journal cannot be shown.")
    files = {number: folder / f"{number}.json" for number in range(len(plan["jobs"]))}
    entries = {number: json.loads(file.read_text()) for number, file in files.items() if file.is_file()}
    return Sweep(plan["name"], plan["jobs"], entries)


def sweep_table(sweep: Sweep, *, alive: bool = False) -> list[str]:
    """Lay out a sweep: the Avg of what is done, the time of what is running (`>`), a dot for what waits.

    Args:
        sweep: as its folder says.
        alive: jobs that have not ended are running; otherwise, they were stopped.

    Returns:
        Lines of text.
    """
    jobs = [dict(word.split("=", 1) for word in words) for words in sweep.jobs]
    keys = [key for key in REPLICATES if key in jobs[0]]
    cells: dict[str, dict[tuple[str, ...], str]] = {}
    for number, job in enumerate(jobs):
        column = tuple(job[key] for key in keys)
        cells.setdefault(_row_name(sweep, job), {})[column] = _cell(sweep.entries.get(number), alive)
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    grid = [[_short(key), *(column[i] for column in columns)] for i, key in enumerate(keys)]
    grid += [[name, *(row.get(column, "") for column in columns)] for name, row in cells.items()]
    first, *others = (max(map(len, column)) for column in zip(*grid, strict=True))
    return [
        f"  {line[0]:{first}}" + "".join(f"  {c:>{max(w, 6)}}" for c, w in zip(line[1:], others, strict=True))
        for line in grid
    ]


def sweep_state(sweep: Sweep, *, alive: bool = False) -> str:
    """How many jobs are done, running, failed and waiting, and about how long the rest will take."""
    counts = {state: len(sweep.of_state(state)) for state in ("done", "running", "failed")}
    waiting = len(sweep.jobs) - sum(counts.values())
    shown = [f"{counts['done']} of {len(sweep.jobs)} done"]
    shown += [f"{counts['running']} {'running' if alive else 'stopped'}"] if counts["running"] else []
    shown += [f"{counts['failed']} failed"] if counts["failed"] else []
    left = _seconds_left(sweep, waiting) if alive else None
    return ", ".join(shown) + (f"; about {clock(left)} left" if left is not None else "")


def clock(seconds: float) -> str:
    """A duration as people read it: 0:07, 12:30, 1:02:30."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class LiveTable:
    """A sweep's table in a terminal, redrawn in place each second until it is closed.

    Args:
        folder: the sweep's.
        terminal: file descriptor of the terminal; the table keeps a copy, and may be drawn while the descriptor itself
            leads elsewhere.
    """

    def __init__(self, folder: Path, terminal: int) -> None:
        self._folder, self._terminal, self._height = folder, os.fdopen(os.dup(terminal), "w"), 0
        self._closing = Event()
        self._thread = Thread(target=self._redraw, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the terminal: as it was, where all is done and is told in other words; else with what there is."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            sweep = read_sweep(self._folder)
            self._show([] if len(sweep.of_state("done")) == len(sweep.jobs) else self._lines(sweep, alive=False))
            self._terminal.close()

    def _redraw(self) -> None:
        while not self._closing.wait(1):
            self._show(self._lines(read_sweep(self._folder), alive=True))

    def _lines(self, sweep: Sweep, alive: bool) -> list[str]:
        """As many lines as the terminal has room for, none longer than it is wide."""
        columns, rows = os.get_terminal_size(self._terminal.fileno())
        table = sweep_table(sweep, alive=alive)
        if (hidden := len(table) - max(1, rows - 4)) > 0:
            table[-hidden - 1 :] = [f"  ... {hidden + 1} more: mmcse status {self._folder}"]
        state, output = sweep_state(sweep, alive=alive), f"output: {self._folder}/*.log"
        return [line[: max(1, columns - 1)] for line in (*table, f"  {state}", f"  {output}")]

    def _show(self, lines: Sequence[str]) -> None:
        back = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        self._terminal.write(back + "".join(f"{line}\n" for line in lines))
        self._terminal.flush()
        self._height = len(lines)


def _row_name(sweep: Sweep, job: dict[str, str]) -> str:
    keys = sorted(job.keys() - set(REPLICATES), key=lambda key: (key != "experiment", list(job).index(key)))
    return " ".join(job[key] if key == "experiment" else f"{_short(key)}={job[key]}" for key in keys) or sweep.name


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _cell(entry: dict[str, Any] | None, alive: bool) -> str:
    if entry is None:
        return "."
    if entry["state"] == "done":
        return "nan" if entry["value"] is None else f"{entry['value']:.2f}"
    if entry["state"] == "running":
        return f">{clock(time.time() - entry['started'])}" if alive else "stopped"
    return entry["state"]


def _seconds_left(sweep: Sweep, waiting: int) -> float | None:
    """An estimate from the jobs that are done, but for those that took no time: they found their run finished."""
    seconds = [entry["seconds"] for entry in sweep.of_state("done")]
    trained = [each for each in seconds if each > max(seconds) / 10]
    if not trained:
        return None
    mean = sum(trained) / len(trained)
    running = [max(0.0, mean - (time.time() - entry["started"])) for entry in sweep.of_state("running")]
    return (waiting * mean + sum(running)) / max(1, len(running))
