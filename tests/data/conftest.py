"""Layout folders on disk for the tests of the data area."""

from pathlib import Path

import pytest

from layout_files import LayoutFolders, write_layout


@pytest.fixture
def valor_layout(tmp_path: Path) -> LayoutFolders:
    """A handful of videos in VALOR's layout."""
    return write_layout(tmp_path / "valor", "valor")


@pytest.fixture
def llp_layout(tmp_path: Path) -> LayoutFolders:
    """A handful of videos in LLP's original layout."""
    return write_layout(tmp_path / "llp", "llp")
