"""Weights & Biases: what an offline run holds, what goes over the wire, and that no failure of it fails a run."""

import json
import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

import tiny
from mmcse.callbacks.history import read_history
from mmcse.commands.dashboard import FIGURES
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank
from mmcse.errors import UserError
from mmcse.runs.identity import run_identity
from mmcse.runs.record import read_record
from mmcse.train import train
from wandb_files import read_run
from wandb_server import API_KEY, Server

WORDS = ("logger=wandb", "run.progress=lines", "threads=1")
STOPPING = """
import sys
from mmcse import cli
from mmcse.parser import VideoParser
step = VideoParser.training_step
def stopping(parser, batch, number):
    if parser.current_epoch == 2:
        raise KeyboardInterrupt
    return step(parser, batch, number)
VideoParser.training_step = stopping
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def account(tmp_path_factory):
    """Environment of somebody who has never used W&B on this machine."""
    return _account(tmp_path_factory)


def _account(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("home"))
    places = dict.fromkeys(("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"), home)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**kept, **places, "OMP_NUM_THREADS": "1"}


def mmcse(bank, root, *words, environment, program=("-m", "mmcse")):
    command = ("train", *tiny.data(bank), *tiny.NETWORK, *tiny.TRAINING, *WORDS, f"run.root={root}", *words)
    return subprocess.run((sys.executable, *program, *command), capture_output=True, text=True, timeout=300,
                          env=environment, stdin=subprocess.DEVNULL)  # fmt: skip


def offline_runs(root):
    return {file.parents[2].name: read_run(file) for file in root.rglob("*.wandb")}


@pytest.fixture(scope="module")
def sweep(smoke_bank, tmp_path_factory):
    """Three jobs of one process, the last of which fails; without an API key, though a server would be there."""
    root = tmp_path_factory.mktemp("sweep")
    with Server() as server:
        environment = _account(tmp_path_factory) | {"WANDB_BASE_URL": server.url}
        words = ("-m", "experiment=table3/no_secm", "model.num_heads=2,4,3", "run.tags=[mine]", "logger.figures=false")
        done = mmcse(smoke_bank, root, *words, environment=environment)
    assert done.returncode == 2, done.stderr
    records = {file.parent.name: read_record(file.parent) for file in root.rglob("result.json")}
    folders = {folder.parent.name: folder for folder in root.rglob("wandb")}
    return SimpleNamespace(root=root, done=done, requests=server.requests, records=records, runs=offline_runs(root),
                           folders=folders)  # fmt: skip


@pytest.mark.slow
class TestOfflineSweep:
    def test_has_a_run_for_each_job_with_its_exit_code(self, sweep):
        codes = {name: run.exit_code for name, run in sweep.runs.items()}
        assert codes == {name: 0 if record["status"] == "ok" else 1 for name, record in sweep.records.items()}
        assert sorted(codes.values()) == [0, 0, 1]
        assert len({run.run.run_id for run in sweep.runs.values()}) == 3

    def test_calls_nobody_and_says_how_to_send_it(self, sweep):
        assert sweep.requests == []
        assert sweep.done.stderr.count("W&B, offline: `wandb sync ") == 3
        assert "wandb:" not in sweep.done.stderr + sweep.done.stdout

    def test_says_what_was_run(self, sweep):
        [plan] = sweep.root.rglob("sweep.json")
        for name, run in sweep.runs.items():
            record, told = sweep.records[name], run.run
            assert told.run_id == f"table3-no_secm-{record['identity']}-seed{record['seed']}"
            assert (told.project, told.job_type) == ("mmcse", "train")
            assert told.run_group == "-".join(plan.parent.relative_to(sweep.root / "sweeps").parts)
            assert set(told.tags) == {"table3", "no_secm", "mine", "SIMULATED"}
            config = {key: value for key, value in run.config.items() if key in record["config"]}
            assert config == record["config"]
            assert (run.config["identity"], run.config["data_kind"]) == (record["identity"], "simulated")

    def test_has_every_epoch_once_and_what_is_best_in_its_summary(self, sweep):
        succeeded = {name: run for name, run in sweep.runs.items() if run.exit_code == 0}
        for name, run in succeeded.items():
            record = sweep.records[name]
            epochs = [row for row in run.history if "epoch" in row]
            assert [row["epoch"] for row in epochs] == [row["_step"] for row in epochs] == [1, 2]
            best = epochs[record["selection"]["epoch"] - 1]
            assert run.summary["best_epoch"] == record["selection"]["epoch"]
            for score, value in record["scores"]["val"].items():
                assert run.summary[f"val/{score}"] == best[f"val/{score}"] == value
            for score, value in record["scores"]["test"].items():
                assert run.summary[f"test/{score}"] == value
            assert len(record["scores"]["test"]) == 13
            assert {row["train/total"] for row in epochs} > {record["losses"]["total"]}
            assert all(run.metrics[names].step_metric == "epoch" for names in ("train/*", "val/*", "lr"))
            assert run.metrics["val/*"].summary.none

    def test_has_a_table_of_the_classes(self, sweep, smoke_bank):
        classes = list(FeatureBank.open(smoke_bank).classes)
        for name, run in sweep.runs.items():
            tables = list(sweep.folders[name].rglob("per_class*.table.json"))
            if run.exit_code:
                assert tables == []
                continue
            table = json.loads(tables[0].read_text())
            assert [row[0] for row in table["data"]] == classes
            column = table["columns"].index("F segment/A")
            assert [row[column] for row in table["data"]] == sweep.records[name]["per_class"]["segment/A"]["F"]
            assert run.history[-1]["per_class.nrows"] == len(classes)

    def test_keeps_checkpoint_record_and_manifest(self, sweep, smoke_bank):
        bank = FeatureBank.open(smoke_bank)
        for run in sweep.runs.values():
            kept = {kind: artifact for (kind, _), artifact in run.artifacts.items() if kind != "run_table"}
            if run.exit_code:
                assert not kept
                continue
            files = {kind: {entry.path for entry in artifact.manifest.contents} for kind, artifact in kept.items()}
            assert files == {
                "model": {"best.ckpt", "config.yaml", "history.csv", "result.json"}, "dataset": {"manifest.json"}
            }  # fmt: skip
            assert kept["dataset"].name == f"bank-{bank.digest[:10]}"
            assert json.loads(kept["model"].metadata)["kind"] == "simulated"


@pytest.mark.slow
def test_an_interrupted_run_goes_on_online_where_it_was(smoke_bank, tmp_path, account):
    pytest.importorskip("matplotlib")
    with Server() as server:
        environment = account | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY}
        words = ("trainer.max_epochs=4", "logger.group=mine", "logger.project=elsewhere")
        stopped = mmcse(smoke_bank, tmp_path, *words, environment=environment, program=("-c", STOPPING))
        assert stopped.returncode == 130, stopped.stderr
        resumed = mmcse(smoke_bank, tmp_path, *words, environment=environment)
    assert resumed.returncode == 0, resumed.stderr
    [folder] = (file.parent for file in tmp_path.rglob("result.json"))
    record = read_record(folder)
    run = f"mmcse-{record['identity']}-seed{record['seed']}"
    for said in (stopped.stderr, resumed.stderr):
        assert re.findall(r"W&B.*", said) == [f"W&B: {server.url}/someone/elsewhere/runs/{run}"]

    first = server.calls["UpsertBucket"][0]
    assert {call["name"] for call in server.calls["UpsertBucket"]} == {run}
    assert (first["project"], first["groupName"], first["jobType"]) == ("elsewhere", "mine", "train")
    assert set(first["tags"]) == {"mmcse", "SIMULATED"}
    sent = json.loads(first["config"])
    assert sent["model"]["value"] == record["config"]["model"]
    assert len(server.calls["RunResumeStatus"]) == 1
    assert server.exit_codes(run) == [130, 0]

    history = server.lines(run)
    assert [row["epoch"] for row in history if "epoch" in row] == [1, 2, 3, 4]
    assert [row["_step"] for row in history] == [1, 2, 3, 4, 5]
    assert [row["val/Avg"] for row in history[:4]] == read_history(folder / "history.csv")["val/Avg"].tolist()
    summary = server.lines(run, "wandb-summary.json")[-1]
    assert {name: summary[f"test/{name}"] for name in record["scores"]["test"]} == record["scores"]["test"]

    assert server.uploads[f"{run}/best.ckpt"] == (folder / "checkpoints" / "best.ckpt").read_bytes()
    assert {call["artifactID"] for call in server.calls["CommitArtifact"]} > {run}
    pictures = [name for name in server.uploads if name.endswith(".png")]
    shown = {re.match(r"media/images/figures/([a-z]+)", name)[1] for name in pictures}
    assert shown == {*FIGURES, "video"}
    assert all(server.uploads[name].startswith(b"\x89PNG") for name in pictures)


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_costs_a_warning(smoke_bank, tmp_path, account):
    with socket.socket() as nobody:  # bound, but not listening
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        environment = account | {"WANDB_BASE_URL": url, "WANDB_API_KEY": API_KEY}
        words = ("logger.patience=3", "logger.figures=false")
        done = mmcse(smoke_bank, tmp_path, *words, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "W&B cannot be reached; this run is kept offline." in done.stderr
    [run] = offline_runs(tmp_path).values()
    assert run.exit_code == 0
    assert "test/Avg" in run.summary


class Broken:
    """A run of W&B of which nothing works."""

    def __getattr__(self, name):
        raise ConnectionError("the network is down")


def test_no_failure_of_it_fails_a_run(smoke_bank, tmp_path, monkeypatch, caplog):
    pytest.importorskip("wandb")
    monkeypatch.setattr("mmcse.tracking._start", lambda *arguments: Broken())
    run = train(tiny.config(smoke_bank, tmp_path, "logger=wandb", "logger.figures=false"))
    assert run.record["status"] == "ok"
    assert caplog.text.count("W&B has failed, and the run goes on without it: the network is down") == 1


def test_the_library_is_asked_for_by_its_extra(smoke_bank, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'mmcse\[wandb\]'"):
        train(tiny.config(smoke_bank, tmp_path, "logger=wandb"))


def test_an_unknown_mode_is_named(smoke_bank, tmp_path):
    with pytest.raises(UserError, match="'of course'; expected"):
        train(tiny.config(smoke_bank, tmp_path, "logger=wandb", "logger.mode=of course"))


def test_where_a_run_is_mirrored_is_no_part_of_its_identity():
    plain, mirrored = (
        OmegaConf.to_container(compose_config("train", ("data=bank", "data.bank=x", logger)), resolve=True)
        for logger in ("logger=none", "logger=wandb")
    )
    assert plain != mirrored
    assert run_identity(plain, "digest") == run_identity(mirrored, "digest")
