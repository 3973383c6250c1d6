"""`mmcse dashboard`: what it sends, and what it says when it cannot."""

import json
import os
import re
import subprocess
import sys

import pytest

import tiny
from mmcse import cli
from mmcse.callbacks.history import read_history
from mmcse.commands.dashboard import FIGURES
from mmcse.train import train
from wandb_server import API_KEY, Server

pytest.importorskip("wandb_workspaces")


def values(node, key):
    """Everything that stands under a key, anywhere below a node."""
    if isinstance(node, dict):
        return [v for k, v in node.items() if k == key] + [x for v in node.values() for x in values(v, key)]
    return [x for item in node for x in values(item, key)] if isinstance(node, list) else []


def dry_run(capsys, *words):
    assert cli.main(["dashboard", "--dry-run", *words]) == 0
    return json.loads(capsys.readouterr().out)["section"]


def mmcse(*words, server, home, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    kept |= dict.fromkeys(("HOME", "WANDB_CONFIG_DIR"), str(home)) | {"WANDB_BASE_URL": server.url} | environment
    return subprocess.run((sys.executable, "-m", "mmcse", *words), capture_output=True, text=True, timeout=120,
                          env=kept, stdin=subprocess.DEVNULL)  # fmt: skip


def test_panels_are_about_what_runs_log(smoke_bank, tmp_path, capsys):
    folder, record = train(tiny.config(smoke_bank, tmp_path))
    logged = read_history(folder / "history.csv").keys() | {f"test/{name}" for name in record["scores"]["test"]}
    section = dry_run(capsys)
    shown = {name for names in values(section, "metrics") for name in names}
    assert {"test/Avg", "val/segment/Type", "train/total"} <= shown <= logged
    assert {panel["xAxis"] for panel in values(section, "config") if "xAxis" in panel} == {"epoch"}
    [pattern] = values(section, "metricRegex")
    assert {name for name in logged if re.fullmatch(pattern, name)} == {n for n in logged if n.startswith("train/")}
    assert [key for keys in values(section, "mediaKeys") for key in keys] == [f"figures/{name}" for name in FIGURES]
    assert "per_class" in json.dumps(section)


def test_kinds_of_data_are_kept_apart_and_a_sweep_can_be_chosen(capsys):
    [runs] = dry_run(capsys, "--sweep", "monday")["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["data_kind.value", "run.value.name"]
    [chosen] = runs["filters"]["filters"]
    assert (chosen["key"]["name"], chosen["op"], chosen["value"]) == ("group", "=", "monday")
    [runs] = dry_run(capsys)["runSets"]
    assert not runs["filters"]["filters"]
    assert any("SIMULATED" in text for text in values(dry_run(capsys), "value") if isinstance(text, str))


def test_the_library_is_asked_for_by_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert cli.main(["dashboard", "--dry-run"]) == 2
    assert "pip install 'mmcse[dashboard]'" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_key_it_says_so_and_calls_nobody(tmp_path):
    with Server() as server:
        done = mmcse("dashboard", server=server, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mmcse: There is no API key of W&B: `wandb login`")
    assert server.calls == {}


@pytest.mark.slow
def test_with_a_key_it_makes_a_workspace_and_says_where(tmp_path):
    with Server() as server:
        words = ("dashboard", "--project", "elsewhere", "--sweep", "monday")
        done = mmcse(*words, server=server, home=tmp_path, WANDB_API_KEY=API_KEY)
    assert done.returncode == 0, done.stderr
    [view] = server.calls["UpsertView2"]
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("someone", "elsewhere", "mmcse: monday")
    assert values(json.loads(view["spec"]), "mediaKeys")
    assert re.fullmatch(rf"{server.url}/someone/elsewhere\?nw=\w+\n", done.stdout)
