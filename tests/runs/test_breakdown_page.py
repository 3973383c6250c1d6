"""The page that compares runs by class and by duration."""

import json

import pytest

import tiny
from mmcse.cli import main
from mmcse.data import FeatureBank
from mmcse.train import train


@pytest.fixture(scope="module")
def runs(smoke_bank, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(tiny.config(smoke_bank, root, f"seed={seed}", "optimizer.lr=1e-2"))
    return root


def test_the_page_has_every_class_and_duration(runs, smoke_bank, tmp_path):
    page = tmp_path / "page.md"
    assert main(["breakdown", str(runs), "--out", str(page)]) == 0
    text = page.read_text()
    assert "SIMULATED" in text
    assert "mmcse (2)" in text
    for name in FeatureBank.open(smoke_bank).classes:
        assert text.count(f"\n| {name} |".replace("_", r"\_")) == 2
    for words in ("1-2 s", "3-5 s", "6-9 s", "10 s"):
        assert text.count(f"| {words} (") == 3


def test_runs_on_other_data_and_unfinished_ones_are_refused(runs, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "result.json").write_text('{"format": 1, "status": "failed"}')
    assert main(["breakdown", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 2
    assert "None of these runs is finished" in capsys.readouterr().err
    for digest in ("a", "b"):
        (tmp_path / digest).mkdir()
        record = {"format": 1, "status": "ok", "config": {"seed": 0}, "data": {"digest": digest}}
        (tmp_path / digest / "result.json").write_text(json.dumps(record))
    assert main(["breakdown", str(tmp_path), "--out", str(tmp_path / "page.md")]) == 2
    assert "on different data" in capsys.readouterr().err
