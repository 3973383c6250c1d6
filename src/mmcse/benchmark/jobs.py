"""Two short trainings: both at once with a thread each, or one after the other with two."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mmcse.benchmark.timing import Seconds, take_turns
from mmcse.data import FeatureBank


def measure_jobs(bank: FeatureBank, root: Path, overrides: list[str], repeats: int) -> Seconds:
    """Time two trainings of an epoch, start-up included, in both ways.

    Args:
        bank: to train on.
        root: folder of the runs.
        overrides: of the training configuration.
        repeats: rounds.

    Returns:
        Seconds until both trainings were done.
    """

    def start(seed: int, threads: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mmcse", "train", "data=bank", f"data.bank='{bank.folder}'", f"seed={seed}"]
        command += [f"threads={threads}", f"run.root='{root}'", "run.force=true", "run.progress=none"]
        command += ["trainer.max_epochs=1", "trainer.accelerator=cpu", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def together() -> None:
        _finish(*[start(seed, 1) for seed in (0, 1)])

    def in_turn() -> None:
        for seed in (0, 1):
            _finish(start(seed, 2))

    ways: dict[str, Callable[[], None]] = {"2 jobs x 1 thread": together, "1 job x 2 threads": in_turn}
    return take_turns(ways, repeats, warm_up=0)


def _finish(*processes: subprocess.Popen[bytes]) -> None:
    try:
        for process in processes:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)
    finally:
        for process in processes:
            process.kill()
