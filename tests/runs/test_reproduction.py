"""The page on what was reproduced: what it claims is what the reference numbers say, and it is up to date."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from mmcse.cli import main
from mmcse.configuration import compose_config, experiment_folder
from mmcse.required import require_values
from mmcse.runs.collect import result_of
from mmcse.runs.paper import paper_tables
from mmcse.runs.reproduction import reproduction
from runs_made_up import record

REPOSITORY = experiment_folder().parent


@pytest.fixture(scope="module")
def parity():
    return OmegaConf.to_container(OmegaConf.load(experiment_folder() / "parity.yaml"))


def test_the_evaluator_s_numbers_are_the_reference(parity, shared):
    golden = np.load(shared / "golden" / "metrics.npz")
    for case, scores in parity["evaluator"]["scores"].items():
        assert scores == golden[f"val.corrected.{case}.scores"].tolist()


def test_tests_it_refers_to_exist(parity):
    for line in (parity["evaluator"], *parity["network"]):
        assert (REPOSITORY / line["test"]).is_file()


def test_the_page(tmp_path):
    page = reproduction([result_of(record())])
    assert page == reproduction([result_of(record())])
    assert "| MM-CSE | 4,488,141 | 4.49 M |" in page
    assert "| VALOR | 5,051,211 | 5.05 M |" in page
    assert "SIMULATED" in page
    for number, table in paper_tables().items():
        assert (f"### Table {number}." in page) == table.has_runs


@pytest.mark.slow
def test_its_commands_compose():
    page = reproduction([])
    commands = [line.split() for line in page.splitlines() if line.startswith("mmcse train -m")]
    assert len(commands) > 20
    for command in commands:
        overrides = [word for word in command[3:] if not word.startswith("seed=")]
        config = compose_config("train", overrides)
        require_values(config)
        assert config.data.bank.features == "FEATURES"
        assert config.data.bank.annotations == "ANNOTATIONS"


def test_what_an_experiment_requires_is_made_before_it_is_given():
    lines = reproduction([]).splitlines()
    made = lines.index("mmcse segment-labels CLAP_CLIP_BANK --out SEGMENT_LABELS")
    assert "experiment=table1/lsld " in lines[made + 1]
    assert " data.segment_labels=SEGMENT_LABELS " in lines[made + 1]


def test_check_finds_a_page_that_is_out_of_date(tmp_path):
    command = ["report", "--results", str(tmp_path), "--reproduction", str(tmp_path / "page.md")]
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    page = tmp_path / "page.md"
    page.write_text(page.read_text().replace("4.49", "4.50"))
    assert main([*command, "--check"]) == 1
    assert "4.50" in page.read_text()


def test_the_shipped_page_is_what_the_shipped_results_say():
    results, page = experiment_folder() / "results", REPOSITORY / "docs" / "REPRODUCTION.md"
    assert main(["report", "--results", str(results), "--reproduction", str(page), "--check"]) == 0
