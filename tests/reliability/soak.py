"""Sweeps whose process is killed again and again: `python tests/reliability/soak.py [RUNS]` (default 200).

The same command is launched until it ends by itself. After every kill, each run is complete, or marked as one that is
not; what was complete keeps every bit to the end.
"""

import hashlib
import random
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from killable import finish, kill, narrow_bank, outcome, run_folders, start, words

from mmcse.runs.collect import collect
from mmcse.runs.record import read_record

SWEEP = 20
"""Runs of one sweep: all of their configurations are composed at every launch, before the first starts."""


class Soak(NamedTuple):
    """What a soak came to."""

    runs: int
    kills: int
    interrupted: int
    """Runs that were found begun and not finished after some kill."""
    compared: int
    """Runs that were also trained undisturbed, and are equal bit by bit."""


def soak(folder: Path, num_runs: int, seed: int = 0) -> Soak:
    """Train short runs under kills, in sweeps of `SWEEP` runs.

    Args:
        folder: for bank and runs; empty.
        num_runs: a multiple of 2.
        seed: of the moments of the kills.
    """
    moments, kills, interrupted = random.Random(seed), 0, set()
    bank, root = narrow_bank(folder / "bank"), folder / "runs"
    done: dict[Path, str] = {}
    most = 1.0  # seconds that a launch lives at most; more where that is too short for this machine
    for first in range(0, num_runs // 2, SWEEP // 2):
        seeds = ",".join(map(str, range(first, min(first + SWEEP // 2, num_runs // 2))))
        sweep = words(bank, root, "trainer.max_epochs=2", "-m", "model.secm=true,false", f"seed={seeds}")
        while killed := kill(process := start(sweep), after=moments.uniform(0.2, most)):
            kills += killed
            before = len(done)
            interrupted |= look(root, done)
            most *= 1.25 if len(done) == before else 1
            print(f"{kills} kills, {len(done)} of {num_runs} runs complete", file=sys.stderr)
        assert process.exitcode == 0, "a sweep failed that nobody disturbed"
        assert not look(root, done), "a sweep ended before its runs"
    assert len(done) == num_runs
    assert {run: digest(run) for run in done} == done, "a complete run was changed"
    collected = collect([root], folder / "results")
    assert (collected.added, collected.unfinished, collected.conflicts) == (num_runs, 0, [])
    compared = {*sorted(interrupted)[::2], *sorted(done)[::10]}
    for run in compared:
        record = read_record(run)
        options = ["trainer.max_epochs=2", f"model.secm={str(record['config']['model']['secm']).lower()}"]
        assert finish(start(words(bank, folder / "alone", *options, f"seed={record['seed']}"))) == 0
        assert outcome(run) == outcome(folder / "alone" / run.relative_to(root)), f"{run} is another run's"
    return Soak(num_runs, kills, len(interrupted), len(compared))


def look(root: Path, done: dict[Path, str]) -> set[Path]:
    """Note the runs that are complete by now, with all of their bytes; those that are begun and not complete."""
    begun = set()
    for run in run_folders(root):
        status = read_record(run)["status"]
        assert status in ("ok", "running"), f"{run} is {status}"
        if status == "running":
            begun.add(run)
        elif run not in done:
            done[run] = digest(run)
    return begun


def digest(run: Path) -> str:
    """Of every byte in a run's folder."""
    content = hashlib.sha256()
    for file in sorted(file for file in run.rglob("*") if file.is_file()):
        content.update(str(file.relative_to(run)).encode() + file.read_bytes())
    return content.hexdigest()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(soak(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 200))
