"""Collecting: every result once, none replaced, none lost."""

import json
import shutil

import pytest

from mmcse.cli import main
from mmcse.errors import MissingFileError, UserError
from mmcse.runs.collect import collect, read_results
from mmcse.runs.record import write_record
from runs_made_up import record


def write(root, *records):
    for made in records:
        folder = root / made["name"] / f"{made['identity']}-seed{made['seed']}"
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder, made)
    return root


@pytest.fixture
def runs(tmp_path):
    return write(tmp_path / "runs", record(seed=0), record(seed=1), record("table3/no_secm"), record("table2/full"))


def test_a_file_per_table_and_a_line_per_run(runs, tmp_path):
    assert collect([runs], tmp_path / "out")[:3] == (4, 0, 0)
    files = {file.name: read_results(file) for file in (tmp_path / "out").glob("*.jsonl")}
    assert {name: len(results) for name, results in files.items()} == {"table2.jsonl": 1, "table3.jsonl": 3}
    result = files["table2.jsonl"][0]
    assert result["scores"]["test"]["Avg"] == 60.0
    assert result["data"]["source"]["world"] == 0
    assert "per_class" not in result


def test_nothing_tells_where_on_a_machine_it_was(tmp_path):
    write(tmp_path / "runs", record(kind="real"))
    collect([tmp_path / "runs"], tmp_path / "out")
    assert "secret" not in (tmp_path / "out" / "table3.jsonl").read_text()


def test_again_adds_nothing(runs, tmp_path):
    out = tmp_path / "out"
    collect([runs], out)
    before = {file: file.read_bytes() for file in out.glob("*.jsonl")}
    assert collect([runs], out)[:3] == (0, 4, 0)
    assert {file: file.read_bytes() for file in out.glob("*.jsonl")} == before


def test_parts_copies_and_overlaps_come_to_the_same(runs, tmp_path):
    shutil.copytree(runs / "table3", tmp_path / "copy")
    collect([tmp_path / "copy"], tmp_path / "parts")
    collect([runs, runs / "table2", tmp_path / "copy"], tmp_path / "parts")
    collect([runs], tmp_path / "whole")
    for name in ("table2.jsonl", "table3.jsonl"):
        parts, whole = ((tmp_path / out / name).read_text().splitlines() for out in ("parts", "whole"))
        assert sorted(parts) == sorted(whole)


def test_what_was_collected_outlives_its_folder(runs, tmp_path):
    collect([runs], tmp_path / "out")
    shutil.rmtree(runs / "table3")
    collect([runs], tmp_path / "out")
    assert len(read_results(tmp_path / "out")) == 4


def test_another_result_of_the_same_run_is_kept_beside_the_first_and_flagged(runs, tmp_path, capsys):
    out = tmp_path / "out"
    collect([runs], out)
    first = (out / "table3.jsonl").read_bytes()
    write(runs, record(seed=1, avg=70.0))
    assert main(["collect", str(runs), "--out", str(out)]) == 1
    assert "CONFLICT: table3/full" in capsys.readouterr().err
    assert (out / "table3.jsonl").read_bytes().startswith(first)
    results = [r for r in read_results(out / "table3.jsonl") if r["seed"] == 1]
    assert [(r["scores"]["test"]["Avg"], r.get("conflict")) for r in results] == [(60.0, None), (70.0, True)]


def test_failures_are_kept_and_success_after_them_is_no_conflict(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"
    write(runs, record(status="failed", error="no space"), record(seed=1, status="running"))
    assert collect([runs], out) == (1, 0, 1, [])
    assert read_results(out)[0]["error"] == "no space"
    write(runs, record())
    assert collect([runs], out) == (1, 0, 1, [])
    assert [result["status"] for result in read_results(out)] == ["failed", "ok"]


def test_scores_of_classes_on_demand(runs, tmp_path):
    collect([runs], tmp_path / "out", per_class=True)
    assert read_results(tmp_path / "out")[0]["per_class"] == {"segment/A": {"F": [60.0]}}


def test_full_precision_survives(tmp_path):
    write(tmp_path / "runs", record(avg=100 / 3))
    collect([tmp_path / "runs"], tmp_path / "out")
    assert read_results(tmp_path / "out")[0]["scores"]["test"]["Avg"] == 100 / 3


def test_mistakes_are_named(runs, tmp_path):
    with pytest.raises(MissingFileError, match="There is no run at or below"):
        collect([tmp_path / "nowhere"], tmp_path / "out")
    collect([runs], tmp_path / "out")
    file = tmp_path / "out" / "table3.jsonl"
    file.write_text(file.read_text() + json.dumps({"name": "x"}) + "\n")
    with pytest.raises(UserError, match=r"table3\.jsonl, line 4 is not a result"):
        collect([runs], tmp_path / "out")


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", record() | {"name": "é" * 150 + "/row"})  # of 300 bytes
    with pytest.raises(UserError, match=r"not a whole record of a run \(unexpected values of name\)"):
        collect([tmp_path / "run"], tmp_path / "out")
