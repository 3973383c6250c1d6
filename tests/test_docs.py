"""The pages of docs/: what they tell a reader to write and to run is written and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmcse.objectives
from mmcse.batch import Batch
from mmcse.configuration import config_folder

PAGE = config_folder().parent / "docs" / "add-a-method.md"
MINE = "mymethod"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def written(tmp_path):
    """A folder with the files of the page as they are, each under the name in one of its first lines."""
    for block in (*blocks("python"), *blocks("yaml")):
        file = tmp_path / re.search(r"^# (mine/\S+)$", block, re.MULTILINE)[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    return tmp_path


def test_the_page_adds_a_method_in_fewer_than_60_lines_of_code():
    [code] = blocks("python")
    assert 0 < sum(bool(line.strip()) for line in code.splitlines()) < 60


def test_the_code_is_a_method(written, monkeypatch):
    monkeypatch.syspath_prepend(written / "mine")
    module = __import__(MINE)
    network = module.ConvolutionalParser(6, 5, 4, num_classes=3, num_segments=7, hidden_dim=8)
    batch = Batch(
        audio=torch.randn(2, 7, 6),
        visual=torch.randn(2, 7, 5),
        motion=torch.randn(2, 7, 4),
        weak=torch.ones(2, 3),
        pseudo_audio=torch.ones(2, 7, 3),
        pseudo_visual=torch.zeros(2, 7, 3),
    )
    out = network(batch.audio, batch.visual, batch.motion)
    assert out.segment_logits.shape == (2, 7, 2, 3)
    free, priced = (module.SmoothObjective(s)(out, batch) for s in (0.0, 10.0))
    assert (priced["total"] - free["total"]).item() == pytest.approx(10 * free["jumps"].item(), rel=1e-4)
    priced["total"].backward()
    assert all(p.grad is not None for p in network.neighbours.parameters())


def rows_of(section):
    """The cells of the tables below a heading."""
    lines = PAGE.read_text().partition(section)[2].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]


def test_what_the_page_says_of_the_core_is_there():
    rows = [row for row in rows_of("## What ten methods needed of the core") if "`" in row[0]]
    source = Path(mmcse.__file__).parent
    files = {name for row in rows for cell in row for name in re.findall(r"`(\S+\.py)`", cell)}
    assert len(files) > 15
    assert [name for name in sorted(files) if not (source / name).is_file()] == []
    for first, second, *_ in rows:
        if first.endswith(".py`"):
            text = (source / first.strip("`")).read_text()
            assert [
                name for name in re.findall(r"`(\w+)`", second) if not re.search(rf"(class|def) {name}\b", text)
            ] == []


@pytest.mark.parametrize("hook", ["on_train_batch_start", "augment"])
def test_the_page_names_the_objectives_that_have_a_hook(hook):
    [asking] = [row[2] for row in rows_of("## What ten methods needed of the core") if row[0].startswith(f"`{hook}`")]
    having = {name for name in mmcse.objectives.__all__ if hasattr(getattr(mmcse.objectives, name), hook)}
    assert {f"{method}Objective" for method in asking.split(", ")} == having


@pytest.mark.slow
def test_the_commands_train_and_evaluate_it(written):
    [script] = blocks("bash")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=written, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SIMULATED") == 2  # after training, and after evaluation
    assert len(list(written.glob(f"runs/{MINE}/*/result.json"))) == 1
