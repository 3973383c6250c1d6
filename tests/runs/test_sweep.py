"""Sweeps: whole, stopped, killed, partly failing; and what is edited while one runs."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

import tiny
from mmcse import cli
from mmcse.configuration import composition
from mmcse.parser import VideoParser
from mmcse.runs.record import read_record

pytestmark = pytest.mark.slow

ROWS = "experiment=table3/full,table3/no_secm"


def words(bank, root, *overrides):
    return ["train", *tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, "threads=1", f"run.root={root}", "-m", *overrides]


def outcomes(root):
    """Scores and selection of every run, by its folder."""
    records = {file.parent.relative_to(root): read_record(file.parent) for file in root.rglob("result.json")}
    return {folder: (r["status"], r.get("scores"), r.get("selection"), r["identity"]) for folder, r in records.items()}


@pytest.fixture(scope="module")
def undisturbed(smoke_bank, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(words(smoke_bank, root, ROWS, "seed=0,1", "trainer.max_epochs=4")) == 0
    return root


def test_it_says_where_it_stands_and_what_it_came_to(smoke_bank, tmp_path, capsys):
    assert cli.main(words(smoke_bank, tmp_path, ROWS, "seed=0,1")) == 0
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("[")]
    assert lines[0] == "[1/4] experiment=table3/full seed=0 started"
    assert re.fullmatch(r"\[4/4\] experiment=table3/no_secm seed=1 done, Avg \d+\.\d\d, \d+ s", lines[-1])
    grid = shown.out[shown.out.index("Avg on test of 4 runs:") :].splitlines()
    assert grid[1].split() == ["seed", "0", "1"]
    full = [read_record(f)["scores"]["test"]["Avg"] for f in sorted((tmp_path / "table3" / "full").iterdir())]
    assert grid[2].split() == ["table3/full", *(f"{avg:.2f}" for avg in full)]


def test_the_same_command_again_trains_nothing(undisturbed, smoke_bank, capsys, monkeypatch):
    before = outcomes(undisturbed)
    monkeypatch.setattr("mmcse.train._fit_and_test", None)
    assert cli.main(words(smoke_bank, undisturbed, ROWS, "seed=0,1", "trainer.max_epochs=4")) == 0
    assert outcomes(undisturbed) == before
    assert "Avg on test of 4 runs" in capsys.readouterr().out


def test_a_changed_configuration_never_takes_an_old_result(undisturbed, smoke_bank, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(undisturbed, root)
    before = outcomes(root)
    assert cli.main(words(smoke_bank, root, "experiment=table3/full", "seed=0", "trainer.max_epochs=1")) == 0
    after = outcomes(root)
    assert after.items() > before.items()
    [new] = after.keys() - before.keys()
    assert new.parent == Path("table3/full")
    assert after[new][3] not in {identity for _, _, _, identity in before.values()}


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_and_launched_again_it_comes_to_the_same(undisturbed, smoke_bank, tmp_path, stop):
    command = words(smoke_bank, tmp_path, ROWS, "seed=0,1", "trainer.max_epochs=4", "run.progress=lines")
    child = subprocess.Popen((sys.executable, "-m", "mmcse", *command), stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if line.startswith("[3/4]"):
            break
    assert next(child.stderr).startswith("epoch 1/4")
    child.send_signal(stop)
    child.stderr.read()
    assert child.wait(timeout=60) == (130 if stop == signal.SIGINT else -signal.SIGKILL)
    statuses = sorted(outcome[0] for outcome in outcomes(tmp_path).values())
    assert statuses == (["interrupted", "ok", "ok"] if stop == signal.SIGINT else ["ok", "ok", "running"])
    assert cli.main(command) == 0
    assert outcomes(tmp_path) == outcomes(undisturbed)


def test_a_failing_row_is_reported_and_the_others_are_not_lost(smoke_bank, tmp_path, capsys, monkeypatch):
    step = VideoParser.training_step

    def broken_without_secm(parser, *args):
        if not parser.network.is_full:
            raise RuntimeError("the row is broken")
        return step(parser, *args)

    monkeypatch.setattr(VideoParser, "training_step", broken_without_secm)
    assert cli.main(words(smoke_bank, tmp_path, ROWS, "seed=0,1")) == 2
    shown = capsys.readouterr().err
    assert "[3/4] experiment=table3/no_secm seed=0 failed: the row is broken" in shown
    assert "2 of 4 did" in shown
    assert "table3/no_secm experiment=table3/no_secm seed=1: the row is broken" in shown
    records = [read_record(file.parent) for file in tmp_path.rglob("result.json")]
    assert sorted((r["name"], r["status"]) for r in records) == [
        ("table3/full", "ok"), ("table3/full", "ok"), ("table3/no_secm", "failed"), ("table3/no_secm", "failed"),
    ]  # fmt: skip
    assert all("broken_without_secm" in r["traceback"] for r in records if r["status"] == "failed")

    monkeypatch.undo()
    assert cli.main(words(smoke_bank, tmp_path, ROWS, "seed=0,1")) == 0
    assert {status for status, *_ in outcomes(tmp_path).values()} == {"ok"}


def test_two_launches_do_not_touch_the_same_run(undisturbed, smoke_bank, tmp_path, capsys):
    root = tmp_path / "runs"
    shutil.copytree(undisturbed, root)
    [taken] = (root / "table3" / "full").glob("*-seed1")
    (taken / "result.json").unlink()
    before = sorted(file.name for file in taken.rglob("*"))
    with FileLock(taken / ".lock"):
        assert cli.main(words(smoke_bank, root, ROWS, "seed=0,1", "trainer.max_epochs=4")) == 2
    assert "Another process is training this very run" in capsys.readouterr().err
    assert sorted(file.name for file in taken.rglob("*")) == before


def test_edits_made_while_a_sweep_runs_do_not_leak_in(tmp_path, monkeypatch, capsys):
    for name, folder in (("conf", composition.config_folder()), ("experiments", composition.experiment_folder())):
        shutil.copytree(folder, tmp_path / name)
    monkeypatch.setattr(composition, "config_folder", lambda: tmp_path / "conf")
    monkeypatch.setattr(composition, "experiment_folder", lambda: tmp_path / "experiments")
    composition.register.cache_clear()
    seen = []

    def train(config):
        seen.append((config.seed, config.model.num_layers, config.model.lgsf))
        model, row = tmp_path / "conf/model/mmcse.yaml", tmp_path / "experiments/table3/no_lgsf.yaml"
        model.write_text(model.read_text().replace("num_layers: 4", "num_layers: 7"))
        row.write_text(row.read_text().replace("lgsf: false", "lgsf: true"))
        return SimpleNamespace(record={"scores": {"test": {"Avg": 1.0}}})

    monkeypatch.setattr("mmcse.train.train", train)
    monkeypatch.setattr("mmcse.train.summary", str)
    try:
        command = ["train", "-m", "experiment=table3/no_lgsf", "seed=0,1", f"run.root={tmp_path}"]
        assert cli.main(command) == 0
        assert seen == [(0, 4, False), (1, 4, False)]
        composition.register.cache_clear()
        assert composition.compose_config("train", ["experiment=table3/no_lgsf"]).model.num_layers == 7
    finally:
        monkeypatch.undo()
        composition.register.cache_clear()
        composition.register()
    assert composition.compose_config("train").model.num_layers == 4


def test_every_job_is_told_by_its_own_overrides(tmp_path, monkeypatch, capsys):
    """In Hydra's order, also where a key comes twice: in the place of the first, with the values of the last."""

    def train(config):
        avg = 10 * config.model.num_layers + config.seed
        return SimpleNamespace(record={"scores": {"test": {"Avg": avg}}})

    monkeypatch.setattr("mmcse.train.train", train)
    monkeypatch.setattr("mmcse.train.summary", str)
    words = ("model.num_layers=9", "seed=0,1", "data.batch_size=2", "model.num_layers=2,3", "run.name=mine")
    assert cli.main(["train", "-m", *words, f"run.root={tmp_path}"]) == 0
    shown = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines() if line.startswith("  ")}
    assert rows == {"seed": ["0", "1"], "num_layers=2": ["20.00", "21.00"], "num_layers=3": ["30.00", "31.00"]}
    assert "[2/4] model.num_layers=2 seed=1 started" in shown.err


def test_a_sweep_of_nothing_says_so(tmp_path, capsys):
    assert cli.main(["train", "-m", "experiment=glob(nothing*)", f"run.root={tmp_path}"]) == 2
    assert "The sweep has no jobs" in capsys.readouterr().err


def test_mistakes_in_any_job_are_found_before_the_first_starts(smoke_bank, tmp_path, capsys):
    assert cli.main(words(smoke_bank, tmp_path, "experiment=table3/full,table3/no_scem")) == 2
    assert "Did you mean" in capsys.readouterr().err
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.filterwarnings("ignore:Callback Journal")
def test_sweeps_cannot_go_where_a_file_is(smoke_bank, tmp_path, capsys):
    (tmp_path / "runs").write_text("")
    assert cli.main(words(smoke_bank, tmp_path / "runs", "seed=0,1")) == 2
    assert "Choose another run.root" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_in_processes_of_their_own_come_to_the_same(undisturbed, smoke_bank, tmp_path):
    command = words(smoke_bank, tmp_path, ROWS, "seed=0,1", "trainer.max_epochs=4", "launcher=joblib")
    done = subprocess.run((sys.executable, "-m", "mmcse", *command), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "[4/4]" in done.stderr
    assert "Avg on test of 4 runs" in done.stdout
    assert outcomes(tmp_path) == outcomes(undisturbed)
    plan = json.loads(next(tmp_path.rglob("sweep.json")).read_text())
    assert plan["jobs"][1] == ["experiment=table3/full", "seed=1"]


@pytest.mark.slow
def test_five_seeds_are_five_results_and_the_same_seed_is_the_same(smoke_bank, tmp_path):
    for root in ("first", "second"):
        assert cli.main(words(smoke_bank, tmp_path / root, "experiment=table3/full", "seed=0,1,2,3,4")) == 0
    first, second = outcomes(tmp_path / "first"), outcomes(tmp_path / "second")
    assert first == second
    assert len(first) == 5
    assert len({json.dumps(scores) for _, scores, _, _ in first.values()}) == 5
