"""Tiny random weights of all encoders, written once."""

from pathlib import Path

import pytest
from tiny_encoders import write_tiny_weights


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A folder as `--weights` takes it."""
    pytest.importorskip("transformers", reason="CLIP and CLAP need mmcse[video]")
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))
