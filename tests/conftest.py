"""Fixtures that every area of the tests shares."""

import os
import signal
from pathlib import Path

import pytest

from mmcse.data import simulated_bank

# a shell that starts the tests in the background makes them, and all of their children, deaf to Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the reference numbers and the real annotations, which are not part of the repository."""
    folder = Path(os.environ.get("MMCSE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference numbers at {folder} (set MMCSE_SHARED to the folder that holds golden/)")
    return folder


@pytest.fixture(scope="session")
def smoke_bank(tmp_path_factory) -> Path:
    """SimLLP's smallest preset, simulated once for all tests."""
    folder = tmp_path_factory.mktemp("simllp") / "smoke"
    return simulated_bank(folder, preset="smoke", progress=False).folder
