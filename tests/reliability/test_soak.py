"""A small soak; MMCSE_SOAK_RUNS=200 makes it the full one."""

import os

import pytest
from soak import soak


@pytest.mark.slow
def test_a_sweep_under_kills_completes_and_loses_nothing(tmp_path, evidence):
    found = soak(tmp_path, int(os.environ.get("MMCSE_SOAK_RUNS", 6)))
    assert found.kills
    evidence(faults=found.kills, runs=found.runs, checked=found.compared)
