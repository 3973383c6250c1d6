"""Freed memory is kept: asked for again, it costs no page faults."""

import subprocess
import sys

import pytest

from mmcse.allocator import keep_freed_memory

PROGRAM = """
import resource, sys
import torch
from mmcse.allocator import keep_freed_memory
keep_freed_memory(sys.argv[1] == "keep")
x = torch.ones(4096, 64)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    y = (x @ torch.ones(64, 4096)).relu()  # two blocks of 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(10)))
"""


def faults(how):
    """Page faults of ten passes that need the same memory."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not keep_freed_memory(keep=False), reason="the C library is not GNU's")
@pytest.mark.slow
def test_kept_memory_costs_no_page_faults():
    # how many there are depends on the system's pages; settled after a few passes
    assert sum(faults("keep")[5:]) < 0.1 * sum(faults("give back")[5:])


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
