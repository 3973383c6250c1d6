"""Comparing figures with how they looked when somebody last looked at them."""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="figures need the extra plots")

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = 3.0
"""Root mean square of the differences of pixels, 0 to 255: edges of letters may fall differently, a bar may not."""


@pytest.fixture
def looks_as_before(tmp_path):
    """Compare a figure with its baseline; with MMCSE_NEW_BASELINES=1 in the environment, make it the baseline."""
    from matplotlib.testing.compare import compare_images

    from mmcse.figures import figure_style

    def compare(figure, name):
        drawn, expected = tmp_path / f"{name}.png", tmp_path / f"{name}-expected.png"
        with figure_style():
            figure.savefig(drawn, dpi=50, metadata={"Software": None})
        if os.environ.get("MMCSE_NEW_BASELINES"):
            shutil.copyfile(drawn, BASELINE / drawn.name)
        shutil.copyfile(BASELINE / drawn.name, expected)  # what a comparison writes, it writes beside this
        return compare_images(str(expected), str(drawn), tol=TOLERANCE)

    return compare
