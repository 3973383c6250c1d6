"""Commands in forked processes that can be killed, and all that a run leaves, to compare bit by bit.

The processes are forked from one that has imported everything already: a fresh one spends seconds on that.
"""

import json
import multiprocessing
import os
import signal
import stat
import sys
from pathlib import Path

import torch

import tiny
from mmcse.cli import main
from mmcse.data import simulated_bank

PHASES = ("half written", "before its name", "after its name")
"""Moments of an atomic write at which a process can be killed."""
TIMES = ("started", "finished", "seconds", "peak_memory_bytes")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["mmcse.train", "mmcse.application", "mmcse.cli", "mmcse.runs.sweep"])


def narrow_bank(folder):
    """A simulated bank on which an epoch takes a tenth of a second."""
    sizes = {"train": 24, "val": 6, "test": 6, "audio_dim": 6, "visual_dim": 5, "motion_dim": 4}
    return simulated_bank(folder, preset="smoke", progress=False, **sizes).folder


def words(bank, root, *overrides):
    """A command that trains a tiny MM-CSE for six epochs."""
    recipe = (
        "trainer.max_epochs=6",
        "data.batch_size=8",
        "optimizer.lr=1e-2",
        "scheduler.warmup_epochs=0",
        "threads=1",
    )
    return ["train", *tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, *recipe, f"run.root={root}", *overrides]


def start(command, kill_at=None):
    """Start a command in a process of its own.

    Args:
        command: its words.
        kill_at: (number of a write, one of `PHASES`) at which the process kills itself.
    """
    process = _context.Process(target=_run, args=(command, kill_at))
    process.start()
    return process


def finish(process, timeout=120):
    """Wait for a process; its exit code."""
    process.join(timeout)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def kill(process, after):
    """Kill a process some seconds from now, unless it has ended by then; whether it was killed."""
    process.join(after)
    process.kill()
    return finish(process) == -signal.SIGKILL


def _run(command, kill_at):
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(quiet, stream.fileno())
    if kill_at:
        _arm(*kill_at)
    sys.exit(main(command))


def _arm(number, phase):
    """Make this process kill itself at its n-th atomic write, counted from 0."""
    written = iter(range(sys.maxsize))
    fsync, replace = os.fsync, os.replace

    def killing_fsync(handle):
        fsync(handle)
        if phase == "half written" and _is_file(handle) and next(written) == number:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def killing_replace(source, target):
        due = phase != "half written" and next(written) == number
        if due and phase == "before its name":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync, os.replace = killing_fsync, killing_replace


def _is_file(handle):
    return stat.S_ISREG(os.fstat(handle).st_mode)


def run_folders(root):
    """The run folders below a root, in order."""
    return sorted(file.parent for file in Path(root).rglob("result.json"))


def outcome(folder):
    """All that a run left, but for times and places: two runs are the same if their outcomes are equal."""
    record = json.loads((folder / "result.json").read_text())
    record = {key: value for key, value in record.items() if key not in TIMES}
    record["environment"].pop("git")
    checkpoints = {file.name: torch.load(file, weights_only=True) for file in (folder / "checkpoints").iterdir()}
    for checkpoint in checkpoints.values():
        for state in checkpoint["callbacks"].values():
            state.pop("current_score", None)  # of the last best epoch, which Lightning notes and never reads
            state.pop("seconds", None)
    left = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    root = str(folder.parents[len(Path(record["name"]).parts)])
    return _plain({"record": record, "checkpoints": checkpoints, "files": left}, root) | {
        "history": (folder / "history.csv").read_bytes(),
        "config": (folder / "config.yaml").read_text().replace(root, "ROOT"),
    }


def _plain(value, root):
    """Nested values that compare by `==`, bit by bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {_plain(key, root): _plain(item, root) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, root) for item in value]
    return value.replace(root, "ROOT") if isinstance(value, str) else value
