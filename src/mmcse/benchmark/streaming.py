"""The loader on a bank that is larger than memory, so that the system cannot keep it."""

from pathlib import Path
from typing import Any

import numpy as np

from mmcse.benchmark.full_preset import forget, measure_epochs, split_bytes
from mmcse.benchmark.machine import memory_bytes
from mmcse.data import BankWriter, FeatureBank
from mmcse.data.bank import lock_bank
from mmcse.runs.record import peak_memory

MORE_THAN_MEMORY = 1.1
"""Size of the bank by that of memory."""


def measure_streaming(bank: FeatureBank, folder: Path, num_bytes: int | None = None) -> dict[str, Any]:
    """Seconds of epochs of a loader whose bank does not fit into memory.

    Args:
        bank: whose training videos are written over and over.
        folder: of the large bank; its disk takes as much.
        num_bytes: of the large bank at least; by default more than the memory of the machine.

    Returns:
        "epochs", seconds of the "first", of which the system holds nothing yet, and the "second"; "videos" and
        "read_bytes" of an epoch; "peak", resident bytes of this process.

    Raises:
        UserError: the disk is too small.
    """
    num_bytes = num_bytes or round(MORE_THAN_MEMORY * memory_bytes())
    large = _repeated(bank, folder, num_bytes)
    forget(large)
    return {**measure_epochs(large, ("first", "second")), "peak": peak_memory()}


def _repeated(bank: FeatureBank, folder: Path, num_bytes: int) -> FeatureBank:
    """A bank of the training videos of another one, as often as it takes to be that large."""
    split = bank.split("train")
    times = -(-num_bytes // split_bytes(split))
    with lock_bank(folder):
        writer = BankWriter(
            folder, kind=bank.kind, source={"repeated": times}, classes=bank.classes, num_segments=bank.num_segments
        )
        writer.require_space(num_bytes)
        writer.put("train", "ids", np.array([f"{name}_{copy}" for copy in range(times) for name in split.ids]))
        for name, array in split.arrays.items():
            shape = (times * len(array), *array.shape[1:])
            with writer.appender("train", name, shape, array.dtype) as file:
                for _ in range(times):
                    file.append(array)
        return writer.finish()
