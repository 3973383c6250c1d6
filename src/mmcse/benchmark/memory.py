"""Peak memory of training, each way in a process of its own.

`python -m mmcse.benchmark.memory JSON` is that process.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import torch

from mmcse.allocator import keep_freed_memory
from mmcse.benchmark.ways import Precision, Sizes, Way, build, random_batch, training_step
from mmcse.errors import UserError, one_line
from mmcse.models import kernels
from mmcse.runs.record import peak_memory

STEPS = 3


def training_memory(way: Way, precision: Precision, in_kernels: bool = False, *, sizes: Sizes) -> dict[str, int]:
    """Peak memory of a process that takes a few training steps.

    Args:
        way: of the network.
        precision: of the steps.
        in_kernels: with operators in C++ (`mmcse.models.kernels`).
        sizes: of network and batch; `micro_batch` is for ours.

    Returns:
        Bytes: "peak" resident, and "step", by how much that is more than before the first step.

    Raises:
        UserError: the process failed, for want of memory for instance.
    """
    order = {
        "way": way,
        "precision": precision,
        "in_kernels": in_kernels,
        "sizes": asdict(sizes),
        "threads": torch.get_num_threads(),
    }
    command = [sys.executable, "-m", __spec__.name, json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = one_line(RuntimeError(done.stderr[-300:])) if done.stderr else f"it ended with {done.returncode}"
        raise UserError(f"The memory of {way} at {sizes} could not be measured: {reason}")
    return json.loads(done.stdout)


def _measure(order: dict[str, Any]) -> dict[str, int]:
    torch.set_num_threads(order["threads"])
    sizes = Sizes(**order["sizes"] | {"widths": tuple(order["sizes"]["widths"])})
    keep_freed_memory(order["way"] == "ours")
    kernels.use(order["in_kernels"])
    micro_batch = sizes.micro_batch if order["way"] == "ours" else None
    step = training_step(build(order["way"], sizes), random_batch(sizes), order["precision"], micro_batch)
    before = peak_memory()
    for _ in range(STEPS):
        step()
    return {"peak": peak_memory(), "step": peak_memory() - before}


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
