"""Several processes give the scores of one, to the last bit, though they get different numbers of videos."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmcse.data import simulated_bank

PROGRAM = Path(__file__).with_name("ddp_program.py")


def evaluated(bank, processes, folder):
    """What each of the processes wrote."""
    folder.mkdir()
    command = [sys.executable, PROGRAM, bank, processes, folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(file.read_text()) for file in sorted(folder.iterdir())]


@pytest.mark.slow
def test_evaluation_in_two_processes_is_exact(tmp_path):
    widths = {"audio_dim": 6, "visual_dim": 5, "motion_dim": 4}
    bank = simulated_bank(tmp_path / "bank", preset="smoke", progress=False, train=4, val=12, test=23, **widths).folder
    [alone] = evaluated(bank, 1, tmp_path / "one")
    first, second = evaluated(bank, 2, tmp_path / "two")
    assert (alone["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    assert first["scores"] == second["scores"] == alone["scores"]
    assert first["F"] == second["F"] == alone["F"]
    scores = {name: score for stage in alone["scores"].values() for name, score in stage.items()}
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["val/Avg"] != scores["test/Avg"] > 0
