"""The runs of a report, and tables of any runs: which row a run stands in, and which runs are worth parsing with."""

import pytest

from mmcse.errors import MissingFileError, UserError
from mmcse.runs.collect import result_of
from mmcse.runs.own_table import common_settings, own_tables, row_labels
from mmcse.runs.record import write_record
from mmcse.runs.reported import read_runs, runs_to_parse
from runs_made_up import record


def write(root, *records, checkpoint=True):
    for made in records:
        folder = root / made["name"] / f"{made['identity']}-seed{made['seed']}"
        (folder / "checkpoints").mkdir(parents=True)
        write_record(folder, made)
        if checkpoint:
            (folder / "checkpoints" / "best.ckpt").write_bytes(b"")
    return root


def named(name, **more):
    """A run of an experiment that this suite does not ship."""
    return record(**more) | {"name": name}


def results(*records):
    return [result_of(made) for made in records]


def rows(table):
    return {name: line.cells["Avg"] for line in table.lines for name in (line.row.name,)}


class TestRows:
    def test_a_name_is_enough_where_nothing_else_differs(self):
        assert row_labels(results(record(seed=0), record(seed=1), record("table3/no_secm"))) == [
            "table3/full", "table3/full", "table3/no_secm",
        ]  # fmt: skip

    def test_what_a_sweep_varies_tells_rows_apart(self):
        made = [named("mine", overrides=(f"model.num_layers={n}",)) for n in (1, 2)]
        assert row_labels(results(*made)) == ["mine model.num_layers=1", "mine model.num_layers=2"]

    def test_a_departure_of_one_shipped_experiment_is_said(self):
        made = results(record(), record("table3/no_secm", overrides=("optimizer.lr=0.5",)))
        assert row_labels(made) == ["table3/full", "table3/no_secm optimizer.lr=0.5"]
        assert common_settings(made) == {}

    def test_a_departure_of_all_is_said_once(self):
        quick = ("trainer.max_epochs=3",)
        made = results(record(overrides=quick), record("table3/no_secm", overrides=quick))
        assert row_labels(made) == ["table3/full", "table3/no_secm"]
        assert common_settings(made)["trainer.max_epochs"] == 3
        [table] = own_tables(made)
        assert table.settings["trainer.max_epochs"] == 3


class TestOwnTables:
    def test_rows_are_compared_with_the_reference_in_pairs(self):
        made = [named(name, seed=s, avg=avg + s) for name, avg in (("a", 50), ("b", 52)) for s in range(3)]
        made[-1]["scores"]["test"]["Avg"] += 0.5
        [table] = own_tables(results(*made), "a")
        cell = rows(table)["b"]
        assert cell.ours.n == 3
        assert cell.change.mean == pytest.approx(2 + 0.5 / 3)
        assert cell.change_verdict == "higher"
        assert rows(table)["a"].change is None

    def test_kinds_and_data_do_not_meet(self):
        made = results(record(kind="simulated"), record(kind="real"), record(kind="fixture"))
        assert [table.kind for table in own_tables(made)] == ["fixture", "real", "simulated"]
        assert all(line.runs == 1 for table in own_tables(made) for line in table.lines)

    def test_failed_runs_are_left_out(self):
        [table] = own_tables(results(record(seed=0), record(seed=1, status="failed", error="x")))
        assert [line.runs for line in table.lines] == [1]

    def test_an_unknown_reference_names_the_rows(self):
        with pytest.raises(UserError, match=r"'table3/ful'\. Did you mean 'table3/full'.*There are: table3/full"):
            own_tables(results(record()), "table3/ful")


class TestReading:
    def test_in_order_of_rows_and_seeds(self, tmp_path):
        write(tmp_path, record("table3/no_secm"), record(seed=1), record(seed=0))
        assert [run.name for run in read_runs([tmp_path])] == [
            "table3/full, seed 0", "table3/full, seed 1", "table3/no_secm, seed 0",
        ]  # fmt: skip

    def test_real_and_simulated_runs_are_not_reported_together(self, tmp_path):
        write(tmp_path, record(kind="real"), record("table3/no_secm", kind="simulated"))
        with pytest.raises(UserError, match=r"different kinds: real .*simulated"):
            read_runs([tmp_path])

    def test_nothing_there(self, tmp_path):
        with pytest.raises(MissingFileError, match="no run at or below"):
            read_runs([tmp_path])

    @pytest.mark.parametrize("lacking", ["data", "environment", "started", "status", "config"])
    def test_half_a_record_is_named(self, tmp_path, lacking):
        made = record()
        write(tmp_path, made)
        [file] = tmp_path.rglob("result.json")
        write_record(file.parent, {name: value for name, value in made.items() if name != lacking})
        with pytest.raises(UserError, match=rf"result\.json is not a whole record .*{lacking}"):
            read_runs([tmp_path])


class TestWhichRunsParse:
    def test_one_of_each_row_the_best_on_validation(self, tmp_path):
        made = [
            record(name, seed=s, avg=a) for name, a in (("table3/full", 60), ("table3/no_secm", 70)) for s in (1, 0)
        ]
        made.append(record("table3/no_lgsf", avg=65))
        runs = read_runs([write(tmp_path, *made)])
        assert [run.name for run in runs_to_parse(runs, 2)] == ["table3/no_secm, seed 0", "table3/no_lgsf, seed 0"]
        assert [run.name for run in runs_to_parse(runs, 1, "table3/full")] == ["table3/full, seed 0"]
        assert runs_to_parse(runs, 0) == []

    def test_all_on_the_same_data(self, tmp_path):
        runs = read_runs([write(tmp_path, record(world=0), record("table3/no_secm", world=1))])
        assert [run.label for run in runs_to_parse(runs, 4)] == ["table3/full"]

    def test_only_what_was_trained_to_its_end(self, tmp_path):
        write(tmp_path / "a", record(), checkpoint=False)
        write(tmp_path / "b", record("table3/no_secm", status="failed", error="x"))
        assert runs_to_parse(read_runs([tmp_path]), 4) == []
