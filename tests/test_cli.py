"""The command line: what it prints, where, with which exit status, and how it takes being stopped."""

import csv
import re
import signal
import subprocess
import sys
import time

import pytest

import tiny
from mmcse import __version__, cli
from mmcse.data import FeatureBank, write_valor_layout
from mmcse.runs.record import read_record

PROGRAM = (sys.executable, "-m", "mmcse")


def mmcse(*words, timeout=120):
    return subprocess.run((*PROGRAM, *map(str, words)), capture_output=True, text=True, timeout=timeout)


def training(bank, root, *overrides):
    """Words of a command that trains something tiny; on one thread, so that every process computes the same bits."""
    words = ("train", *tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, "threads=1", f"run.root={root}")
    return [*words, *overrides]


def runs_below(root):
    return {record.parent: read_record(record.parent) for record in root.rglob("result.json")}


def the_run(root):
    [(folder, record)] = runs_below(root).items()
    return folder, record


def assert_mistake(text):
    """One paragraph that begins with the program's name, and nothing of Python's or Hydra's own."""
    assert text.startswith("mmcse: ")
    assert "\n\n" not in text.strip()
    assert not re.search("Traceback|Error executing|HYDRA_FULL_ERROR", text)


class TestHelp:
    @pytest.mark.parametrize("words", [["--help"], ["--version"], ["data", "--help"], ["data", "prepare", "--help"],
                                       ["score", "--help"]])  # fmt: skip
    def test_is_quick_because_nothing_heavy_is_imported(self, words):
        heavy = "torch", "lightning", "hydra", "numpy"
        report = f"import sys, mmcse.cli\ntry: mmcse.cli.main({words})\nfinally: print({heavy!r} & sys.modules.keys())"
        report = report.replace(repr(heavy), repr(set(heavy)))
        shown = subprocess.run((sys.executable, "-c", report), capture_output=True, text=True, timeout=60)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.splitlines()[-1] == "set()"

    def test_names_every_command(self, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(["--help"])
        assert stop.value.code == 0
        assert {"train", "eval", "score", "data"} <= set(capsys.readouterr().out.split())

    def test_of_training_shows_groups_and_values(self, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "--help"])
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert "model: " in shown
        assert "num_layers: 4" in shown
        assert "mmcse train experiment=quickstart" in shown

    def test_version(self, capsys):
        with pytest.raises(SystemExit):
            cli.main(["--version"])
        assert capsys.readouterr().out == f"mmcse {__version__}\n"

    @pytest.mark.slow
    def test_a_reader_that_leaves_early_is_no_error_of_ours(self):
        child = subprocess.Popen((*PROGRAM, "train", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(timeout=60) == 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["nonsense"], "invalid choice: 'nonsense'"),
            ([], "required: COMMAND"),
            (["data"], "required: COMMAND"),
            (["data", "prepare", "x", "--layout", "vallor"], "invalid choice: 'vallor'"),
            (["score", "x.npz"], "required: --annotations"),
        ],
    )
    def test_in_words_are_answered_with_the_usage(self, words, said, capsys):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 2
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["train", "model.num_layer=2"], "Did you mean 'num_layers'?"),
            (["train", "model=mmsce"], "Did you mean 'mmcse'?"),
            (["train", "trainer.limit_val_batches=1"], "+trainer.limit_val_batches=VALUE"),
            (["train", "seed=many"], "could not be converted to Integer"),
            (["train", "seed=" + 5000 * "9"], "more than 1000 digits"),
            (["train", "seed=-1"], "seed is -1; expected 0 or more"),
            (["train", "trainer.max_epochs=0"], "trainer.max_epochs is 0; expected 1 or more"),
            (["train", "threads=0"], "threads is 0; expected 1 or more"),
            (["train", "run.progress=loud"], "expected one of auto, bar, lines, none"),
            (["train", "data=bank"], "data.bank has no default and was not given: add data.bank=VALUE"),
            (["train", "data=bank", "data.bank=nowhere"], "There is no feature bank at nowhere"),
            (["train", "data=llp_clip_clap", "data.bank.annotations=x"], "add data.bank.features=VALUE"),
            (["eval"], "checkpoint has no default and was not given"),
            (["eval", "checkpoint=nowhere.ckpt"], "There is no checkpoint at nowhere.ckpt"),
            (["score", "nowhere.npz", "--annotations", "."], "There is no annotation file AVVP_test_pd.csv in ."),
            (["data", "check", "nowhere"], "There is no feature bank at nowhere"),
            (["data", "check", "nowhere", "--layout", "valor"], "with both --layout and --annotations"),
        ],
    )
    def test_are_one_paragraph_and_status_2(self, words, said, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert cli.main(words) == 2
        shown = capsys.readouterr()
        assert_mistake(shown.err)
        assert said in shown.err
        assert shown.out == ""

    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("model.num_heads=3", "class_dim (8) must be a multiple of num_heads (3)"),
            ("data.batch_size=0", "Batch sizes must be at least 1"),
            ("optimizer.lr=-1", "The optimizer cannot be made: Invalid learning rate: -1"),
            ("evaluation.gate=nonsense", "The gate is 'nonsense'; expected one of"),
            ("evaluation.select=val/segment/Typ", "Did you mean 'val/segment/Type'?"),
            ("data.audio_truth=mended", "expected 'original' or 'corrected'"),
        ],
    )
    def test_that_show_only_in_building_are_no_different(self, override, said, smoke_bank, tmp_path, capsys):
        assert cli.main(training(smoke_bank, tmp_path, override)) == 2
        shown = capsys.readouterr()
        assert_mistake(shown.err)
        assert said in shown.err

    def test_look_the_same_from_outside(self, tmp_path):
        done = mmcse("train", "data=bank", f"data.bank={tmp_path}")
        assert (done.returncode, done.stdout) == (2, "")
        assert_mistake(done.stderr)

    def test_of_ours_keep_their_stack_trace(self, smoke_bank, tmp_path, monkeypatch):
        def broken(config):
            raise ZeroDivisionError

        monkeypatch.setattr("mmcse.train.train", broken)
        with pytest.raises(ZeroDivisionError):
            cli.main(training(smoke_bank, tmp_path))


@pytest.mark.slow
def test_training_from_the_outside(smoke_bank, tmp_path):
    command = training(smoke_bank, tmp_path, "run.progress=auto")
    done = mmcse(*command)
    assert done.returncode == 0, done.stderr
    folder, record = the_run(tmp_path)
    assert record["status"] == "ok"
    assert "SIMULATED" in done.stdout
    assert str(folder) in done.stdout
    assert f"Avg {record['scores']['test']['Avg']:.2f}" in done.stdout
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["1/2", "2/2"]  # a line an epoch, nothing else

    again = mmcse(*command)
    assert again.returncode == 0
    assert "has finished before" in again.stderr
    assert again.stdout == done.stdout


class TestSweep:
    def test_is_a_run_for_each_job(self, smoke_bank, tmp_path, capsys):
        assert cli.main(training(smoke_bank, tmp_path, "-m", "seed=0,1")) == 0
        records = runs_below(tmp_path)
        assert sorted(record["seed"] for record in records.values()) == [0, 1]
        assert len({record["identity"] for record in records.values()}) == 1
        shown = capsys.readouterr().out
        assert all(str(folder) in shown for folder in records)

    def test_goes_on_after_a_job_that_fails_and_names_all_that_did(self, smoke_bank, tmp_path, capsys):
        command = training(smoke_bank, tmp_path, "-m", "model.num_heads=3,2,5")
        assert cli.main(command) == 2
        assert sorted(record["status"] for record in runs_below(tmp_path).values()) == ["failed", "failed", "ok"]
        shown = capsys.readouterr()
        assert shown.out.count("SIMULATED") == 1
        for heads in (3, 5):
            assert re.search(rf"num_heads={heads} .*: class_dim \(8\) must be a multiple", shown.err)
        assert "Not all jobs of the sweep succeeded" in shown.err
        assert "Traceback" not in shown.err

    def test_stops_altogether_at_ctrl_c(self, smoke_bank, tmp_path, monkeypatch, capsys):
        jobs = []

        def interrupted(config):
            jobs.append(config.seed)
            raise KeyboardInterrupt

        monkeypatch.setattr("mmcse.train.train", interrupted)
        assert cli.main(training(smoke_bank, tmp_path, "-m", "seed=0,1")) == 130
        assert jobs == [0]
        assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_epoch_and_the_same_command_goes_on(smoke_bank, tmp_path):
    settings = ("trainer.max_epochs=30", "run.progress=lines")
    command = training(smoke_bank, tmp_path / "stopped", *settings)
    child = subprocess.Popen((*PROGRAM, *command), stderr=subprocess.PIPE, text=True)
    for line in child.stderr:
        if line.startswith("epoch 3/"):
            break
    time.sleep(0.05)  # somewhere within an epoch
    child.send_signal(signal.SIGINT)
    said = child.stderr.read()
    assert child.wait(timeout=60) == 130
    assert "mmcse: stopped. What was complete is kept; the same command goes on from there." in said
    assert "Traceback" not in said
    folder, record = the_run(tmp_path / "stopped")
    assert record["status"] == "interrupted"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    with open(folder / "history.csv", newline="") as file:
        done = len(list(csv.DictReader(file)))
    assert 3 <= done < 30

    resumed = mmcse(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"epoch {done + 1}/30" in resumed.stderr
    assert "epoch 3/30" not in resumed.stderr
    assert cli.main(training(smoke_bank, tmp_path / "whole", *settings)) == 0
    (whole, expected), (_, record) = the_run(tmp_path / "whole"), the_run(tmp_path / "stopped")
    assert record["status"] == expected["status"] == "ok"
    assert record["scores"] == expected["scores"]
    assert (folder / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


@pytest.mark.slow
def test_ctrl_c_while_data_are_simulated_says_the_same(tmp_path):
    bank = tmp_path / "bank"
    child = subprocess.Popen((*PROGRAM, "data", "simulate", bank), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("bank.partial/train/audio.npy")):
        assert child.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    said = child.stderr.read()
    assert child.wait(timeout=60) == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not bank.exists()
    assert mmcse("data", "simulate", bank).returncode == 0
    assert len(FeatureBank.open(bank).split("train")) == 800


def test_predictions_of_eval_are_scored_as_eval_does(tmp_path, capsys):
    """A simulated LLP as files: packed, trained on, evaluated, and its predictions scored against the files."""
    source, bank, predictions = tmp_path / "files", tmp_path / "bank", tmp_path / "test.npz"
    widths = {"audio_dim": 6, "visual_dim": 5, "motion_dim": 4}
    write_valor_layout(source, preset="smoke", progress=False, train=8, val=6, test=7, **widths)
    annotations = str(source / "annotations")
    assert cli.main(["data", "prepare", str(source), "--layout", "valor", "--annotations", annotations,
                     "--kind", "simulated", "--out", str(bank)]) == 0  # fmt: skip
    assert cli.main(training(bank, tmp_path / "runs", "evaluation.threshold=0.4")) == 0
    folder, record = the_run(tmp_path / "runs")
    checkpoint = f"checkpoint={folder / 'checkpoints' / 'best.ckpt'}"
    assert cli.main(["eval", checkpoint, f"predictions={predictions}", "trainer.accelerator=cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["score", str(predictions), "--annotations", annotations]) == 0
    table = capsys.readouterr().out
    assert f"Avg {record['scores']['test']['Avg']:.2f}" in table
    assert record["scores"]["test"]["Avg"] > 0
