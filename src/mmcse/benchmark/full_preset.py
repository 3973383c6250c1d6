"""Training on as many videos as LLP has: memory of the process, and speed of the loader from the disk.

`python -m mmcse.benchmark.full_preset BANK STEPS THREADS` is the process whose memory is measured.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mmcse.benchmark.ways import Sizes, build, training_step
from mmcse.data import BankSplit, FeatureBank
from mmcse.data.datamodule import AVVPDataModule
from mmcse.runs.record import peak_memory

STEPS = 6


def measure_full_preset(bank: FeatureBank) -> dict[str, Any]:
    """Peak memory of a few training steps on a bank, and seconds of an epoch of its loader.

    Args:
        bank: mapped from the disk.

    Returns:
        "before" and "peak" resident bytes of a training process; "epochs", seconds with a "cold" and a "warm" cache of
        the system (cold only where the system can be asked); "videos", "bank_bytes", and "read_bytes" of an epoch.
    """
    command = [sys.executable, "-m", __spec__.name, str(bank.folder), str(STEPS), str(torch.get_num_threads())]
    memory = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    cold = ("cold",) if forget(bank) else ()
    epochs = measure_epochs(bank, (*cold, "warm"))
    return {**memory, "steps": STEPS, "bank_bytes": sum(file.stat().st_size for file in _files(bank)), **epochs}


def measure_epochs(bank: FeatureBank, names: Sequence[str]) -> dict[str, Any]:
    """Time epochs of the loader, each over all training videos in an order by chance.

    Returns:
        "epochs", seconds by name; "videos" and "read_bytes" of each.
    """
    split = bank.split("train")
    return {
        "epochs": {name: _epoch(bank) for name in names},
        "videos": len(split),
        "read_bytes": split_bytes(split),
    }


def split_bytes(split: BankSplit) -> int:
    """What an epoch reads."""
    return sum(array.nbytes for array in split.arrays.values())


def _epoch(bank: FeatureBank) -> float:
    start = time.perf_counter()
    for _ in AVVPDataModule(bank).train_dataloader():
        pass
    return time.perf_counter() - start


def _files(bank: FeatureBank) -> list[Path]:
    return list(bank.folder.rglob("*.npy"))


def forget(bank: FeatureBank) -> bool:
    """Ask the system to drop a bank from its cache; whether it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in _files(bank):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())  # what is not on the disk yet cannot be dropped
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _train(folder: str, steps: int, threads: int) -> dict[str, int]:
    torch.set_num_threads(threads)
    bank = FeatureBank.open(folder)
    audio, visual, motion = bank.dims.values()
    network = build("ours", Sizes(widths=(audio, visual, motion), num_classes=len(bank.classes)))
    before = peak_memory()
    for batch in islice(AVVPDataModule(bank).train_dataloader(), steps):
        training_step(network, batch, "float32", Sizes.micro_batch)()
    return {"before": before, "peak": peak_memory()}


if __name__ == "__main__":
    print(json.dumps(_train(sys.argv[1], *map(int, sys.argv[2:]))))
