"""The machine that a benchmark ran on: what it is, how busy it was, and how fast it multiplies and copies."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from mmcse.benchmark.timing import Quartiles, take_turns
from mmcse.runs.record import environment, now, processor_name

BUSY = 0.5
"""Load average above which times are not to be trusted."""


def machine() -> dict[str, Any]:
    """Processor, memory, versions and the present load."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "load_at_start": load_average(),
        "time": now(),
        "environment": environment(),
    }


def memory_bytes() -> int:
    """Of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def load_average() -> float:
    """Processes that ran or waited to run, over the last minute."""
    return os.getloadavg()[0]


def come_to_rest(patience: float = 180.0, pause: float = 5.0) -> bool:
    """Wait until the load has fallen: it remembers for minutes what ran before.

    Args:
        patience: seconds to wait at most.
        pause: seconds between two looks.

    Returns:
        Whether the machine is at rest.
    """
    if load_average() > BUSY:
        print(f"waiting for the machine to come to rest: its load is {load_average():.1f}", file=sys.stderr, flush=True)
    deadline = time.monotonic() + patience
    while load_average() > BUSY and time.monotonic() < deadline:
        time.sleep(pause)
    return load_average() <= BUSY


def was_busy(measured: Mapping[str, Any]) -> bool:
    """Whether others worked on the machine: before, or at the end besides the threads that were measured.

    Args:
        measured: of `machine`, with "load_at_end".
    """
    own = measured["environment"]["threads"]
    return measured["load_at_start"] > BUSY or measured["load_at_end"] > own + BUSY


def rates(size: int, repeats: int) -> dict[str, float]:
    """Multiply-adds a second of a product of square matrices by the best library here, and bytes a second of a copy.

    Args:
        size: rows and columns of a matrix.
        repeats: of each; the rate is that of the median.

    Returns:
        "float32" and "bfloat16" in multiply-adds a second, "copy" in bytes read and written a second.
    """
    seconds = take_turns(_products(size, torch.float32) | _products(size, torch.bfloat16), repeats)
    best = {
        name: size**3 / min(Quartiles.of(times).median for way, times in seconds.items() if way.startswith(name))
        for name in ("float32", "bfloat16")
    }
    source = torch.ones(size * size * 4)  # of 2,048 squared, 64 MB: more than a cache
    target = source.clone()
    [copy] = take_turns({"copy": lambda: target.copy_(source)}, repeats).values()
    return best | {"copy": 2 * source.nbytes / Quartiles.of(copy).median}


def _products(size: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """A product of matrices as a linear layer (in float32 that is MKL) and as a convolution (oneDNN)."""
    x, weight = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    images = x.view(16, 1, -1, size).permute(0, 3, 1, 2)
    name = str(dtype).removeprefix("torch.")
    return {
        f"{name} linear": lambda: F.linear(x, weight),
        f"{name} convolution": lambda: F.conv2d(images, weight[:, :, None, None]),
    }
