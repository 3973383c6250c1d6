"""Fixtures that every area of the tests shares."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from mmcse.data import simulated_bank
from mmcse.models import kernels

# a shell that starts the tests in the background makes them, and all of their children, deaf to Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


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


@pytest.fixture
def kernels_in_use():
    """Operators in C++ are used until the test ends; where a compiler is, they have to be built."""
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    assert kernels.use(True)
    yield
    kernels.use(False)


@pytest.fixture(scope="module")  # no longer: playwright keeps a loop of asyncio running as long
def browser():
    """A headless Chromium; where there is none the test is skipped, or fails if MMCSE_REQUIRE_BROWSER is 1."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if found is None or sync_playwright is None:
        reason = "no browser: " + (f"none of {', '.join(BROWSERS)}" if found is None else "playwright is not installed")
        if os.environ.get("MMCSE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield chromium
        chromium.close()
