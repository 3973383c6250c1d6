"""Keeps the counts of what the tests of this folder tried, for docs/RELIABILITY.md (see page.py)."""

import json
import os
import platform
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
import torch

COUNTS: dict[str, Counter] = {}
"""Of each test that passed, without its parameters."""


@pytest.fixture
def evidence(request):
    """Adds to a test's counts: faults injected, inputs tried, inputs refused, results checked."""
    noted = Counter()

    def note(**counts: int) -> None:
        noted.update(counts)

    yield note
    if request.node.stash.get(PASSED, False):
        name = f"{Path(request.node.fspath).name}::{request.node.originalname}"
        COUNTS.setdefault(name, Counter()).update(noted)


PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def pytest_sessionfinish():
    """With MMCSE_EVIDENCE=FILE, put the counts of this session's tests in place of those they had."""
    if (name := os.environ.get("MMCSE_EVIDENCE")) and COUNTS:
        file = Path(name)
        before = json.loads(file.read_text())["tests"] if file.is_file() else {}
        counted = {"date": date.today().isoformat(), "python": platform.python_version(), "torch": torch.__version__}
        tests = dict(sorted({**before, **COUNTS}.items()))
        file.write_text(json.dumps({"counted": counted, "tests": tests}, indent=2) + "\n")
