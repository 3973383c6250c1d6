"""Tables: which results fill which cells, what is said of them, and what never stands together."""

import csv
import io

import pytest

from mmcse.cli import main
from mmcse.configuration import config_folder
from mmcse.errors import UserError
from mmcse.runs.collect import collect, read_results, result_of
from mmcse.runs.identity import file_digests
from mmcse.runs.paper import paper_table
from mmcse.runs.record import write_record
from mmcse.runs.render import FORMATS, render_csv, render_latex, render_markdown, render_text
from mmcse.runs.tables import result_tables, settings_of
from runs_made_up import record

TABLE_3 = paper_table("3")


def results(*records):
    return [result_of(made) for made in records]


def row(table, name):
    [line] = [line for line in table.lines if line.row.name == name]
    return line


def cell(table, name, column="Avg"):
    return row(table, name).cells[column]


def with_runs(name, averages, kind="real", **more):
    return [record(name, seed=seed, avg=avg, kind=kind, **more) for seed, avg in enumerate(averages)]


def test_without_results_everything_needs_real_features_or_was_not_run():
    [table] = result_tables(paper_table("1"), [])
    verdicts = {line.row.name: line.cells["Avg"].verdict for line in table.lines}
    assert verdicts["mmcse_star"] == verdicts["han"] == "needs real LLP features"
    assert verdicts["mgn"] == "needs real LLP features"
    [text] = result_tables(paper_table("6.2"), [])
    assert {line.row.name: line.cells["video/F1"].verdict for line in text.lines}["etavr"] == "not run"


def test_a_table_of_our_own_does_not_wait_for_real_features():
    [empty] = result_tables(paper_table("precision"), [])
    assert {line.cells["Avg"].verdict for line in empty.lines} == {"not run"}
    made = with_runs("precision/float32", [60.0], kind="simulated")
    assert [table.kind for table in result_tables(paper_table("precision"), results(*made))] == ["simulated"]


@pytest.mark.parametrize(
    ("averages", "verdict"),
    [
        ((65.2, 65.4, 65.6), "agrees"),
        ((67.2, 67.4, 67.6), "higher"),
        ((63.2, 63.4, 63.6), "lower"),
        ((60.0, 65.0, 70.0), "not separable"),
        ((65.4,), "not separable"),
    ],
)
def test_verdict_on_the_paper(averages, verdict):
    [table] = result_tables(TABLE_3, results(*with_runs("table3/full", averages)))
    full = cell(table, "full")
    assert (full.paper, full.verdict) == (65.4, verdict)
    assert full.ours.n == len(averages)
    assert cell(table, "no_secm").verdict == "not run"


def test_a_short_column_is_the_mean_of_both_levels():
    made = record(kind="real")
    made["scores"]["test"] |= {"segment/AV": 60.0, "event/AV": 50.0}
    [table] = result_tables(TABLE_3, results(made))
    assert cell(table, "full", "AV").ours.mean == 55.0
    [detail] = result_tables(paper_table("9"), results(made))
    assert cell(detail, "full", "event/AV").ours.mean == 50.0


def test_ablations_are_compared_in_pairs():
    """Seeds that differ by ten points, and a row that loses one point on each."""
    full = with_runs("table3/full", (50.0, 60.0, 70.0), "simulated")
    worse = with_runs("table3/no_secm", (49.0, 58.9, 69.1), "simulated")
    unpaired = [record("table3/no_lgsf", seed=9, avg=10.0)]
    _, table = result_tables(TABLE_3, results(*full, *worse, *unpaired))
    change = cell(table, "no_secm").change
    assert change.mean == pytest.approx(-1.0)
    assert change.n == 3
    assert cell(table, "no_secm").change_verdict == "lower"
    assert cell(table, "no_lgsf").change is None
    assert cell(table, "full").change is None


def test_tests_are_corrected_for_the_rows_of_a_table():
    full = with_runs("table3/full", (50.0, 60.0, 70.0), "simulated")
    one = with_runs("table3/no_secm", (49.0, 58.7, 69.3), "simulated")
    others = [
        made for name in ("no_lgsf", "no_intra") for made in with_runs(f"table3/{name}", (50, 60.5, 69), "simulated")
    ]
    alone = cell(result_tables(TABLE_3, results(*full, *one))[1], "no_secm").change_p
    among = cell(result_tables(TABLE_3, results(*full, *one, *others))[1], "no_secm").change_p
    assert among == pytest.approx(3 * alone)


def test_of_several_worlds_each_counts_once():
    made = [record(seed=s, world=w, avg=10.0 * w + s) for w in (0, 1, 2) for s in (0, 1)]
    _, table = result_tables(TABLE_3, results(*made))
    line = row(table, "full")
    assert (line.worlds, line.seeds, line.runs) == (3, 2, 6)
    assert line.cells["Avg"].ours.n == 3
    assert line.cells["Avg"].ours.std == pytest.approx(10.0)
    assert "3 worlds x 2 seeds" in render_markdown([table])
    _, table = result_tables(TABLE_3, results(*made[:-1]))
    assert "5 in 3 worlds" in render_markdown([table])


def test_the_full_model_counts_once_under_whatever_name():
    made = with_runs("table2/full", (60.0, 61.0)) + with_runs("table3/full", (60.0, 61.0))
    assert len({(m["identity"], m["seed"]) for m in made}) == 2
    [table] = result_tables(paper_table("4"), results(*made))
    assert row(table, "all").runs == 2
    assert table.notes == ()


def test_differing_results_of_one_run_are_said():
    made = [record(kind="real"), record(kind="real", avg=61.0)]
    [table] = result_tables(TABLE_3, results(*made))
    assert cell(table, "full").ours.mean == 60.0
    assert "two results of the same run differ" in table.notes[0]


def test_real_simulated_and_fixture_results_never_meet():
    made = [record(kind=kind) for kind in ("fixture", "simulated", "real")]
    made += [record(world=0, overrides=("model.num_layers=1",))]
    tables = result_tables(TABLE_3, results(*made))
    assert [table.kind for table in tables] == ["real", "simulated", "simulated", "fixture"]
    assert [dict(table.settings) for table in tables] == [{}, {}, {"model.num_layers": 1}, {}]
    assert all(row(table, "full").runs == 1 for table in tables)
    for table in tables[1:]:
        assert all(cell.paper is None and cell.p is None for line in table.lines for cell in line.cells.values())
    for render in (render_text, render_markdown, render_latex, render_csv):
        shown = render(tables[1:])
        assert "65.4" not in shown
        assert "SIMULATED" in shown or render is render_csv


def test_only_successful_runs_count():
    made = [record(kind="real", status="failed"), record(kind="real", seed=1)]
    assert row(result_tables(TABLE_3, results(*made))[0], "full").runs == 1


def test_settings_are_what_departs_from_the_experiment():
    made = record("table4/basic", overrides=("trainer.max_epochs=8", "data.batch_size=32", "threads=1"))
    assert settings_of(result_of(made)) == {"data.batch_size": 32, "trainer.max_epochs": 8}


def test_a_file_that_an_experiment_names_is_no_departure_from_it_and_another_is():
    made = record("table1/cmpae", kind="real")
    released = config_folder() / "stages" / "released_ratios.json"
    made["files"] = file_digests({"objective": {"noise_ratios": str(released)}})
    assert settings_of(result_of(made)) == {}
    made["files"] = {"objective.noise_ratios": "another"}
    assert settings_of(result_of(made)) == {"files.objective.noise_ratios": "another"}


def test_a_changed_experiment_disowns_its_old_results():
    made = record("table3/no_secm", kind="real")
    made["config"]["objective"]["cooccurrence"] = 0.2  # as if the file had said so then
    [table] = result_tables(TABLE_3, results(made))
    assert table.settings == {"objective.cooccurrence": 0.2}


def test_what_an_experiment_requires_departs_only_where_it_was_not_given():
    """LSLD's labels are its method: its row of the paper is for runs on them, and for no others."""
    on_labels = record("table1/lsld", kind="real", files={"data.segment_labels": "abc"})
    elsewhere = record("table1/lsld", kind="real", avg=50.0, overrides=("data.segment_labels=null",))
    own, without = result_tables(paper_table("1"), results(on_labels, elsewhere))
    assert (own.settings, cell(own, "lsld").ours.mean, cell(own, "lsld").paper) == ({}, 60.0, 60.0)
    assert without.settings == {"files.data.segment_labels": None}
    both = record("table1/han", kind="real", files={"data.segment_labels": "abc"})
    assert settings_of(result_of(both)) == {"files.data.segment_labels": "abc"}  # no experiment's own


def test_rows_of_several_files_say_so():
    made = [record("table1/lsld", s, kind="real", files={"data.segment_labels": "abc"[s]}) for s in (0, 1)]
    [table] = result_tables(paper_table("1"), results(*made))
    assert row(table, "lsld").runs == 2
    assert table.notes == ("Row 'LSLD' mixes 2 files of data.segment_labels.",)


@pytest.mark.parametrize("form", FORMATS)
def test_rendering_is_idempotent_and_independent_of_order(form):
    made = results(
        *with_runs("table3/full", (60.0, 61.0, 63.3)), *with_runs("table3/no_secm", (59.0, 61.0), "simulated")
    )
    once, again = (FORMATS[form](result_tables(TABLE_3, records)) for records in (made, made[::-1]))
    assert once == again
    assert once.endswith("\n")


def test_csv_is_in_full_precision():
    shown = render_csv(result_tables(TABLE_3, results(*with_runs("table3/full", (60.0, 61.0, 100 / 3)))))
    lines = list(csv.DictReader(io.StringIO(shown)))
    assert len(lines) == 5 * 6
    [avg] = [line for line in lines if (line["row"], line["column"]) == ("full", "Avg")]
    assert float(avg["mean"]) == (60.0 + 61.0 + 100 / 3) / 3
    assert avg["paper"] == "65.4"


def test_latex_has_the_paper_s_columns():
    made = results(*with_runs("table2/full", (60.0, 61.0)))
    shown = render_latex(result_tables(paper_table("8"), made))
    assert r"\begin{tabular}{l" + 13 * "c" + "}" in shown
    assert r"3 & \checkmark & \checkmark & 60.5\,$\pm$\,0.7 &" in shown
    assert all(line.count("&") == 13 for line in shown.splitlines() if line.startswith("3 "))


def test_the_command(tmp_path, capsys):
    for made in with_runs("table3/full", (60.0, 61.0), "simulated"):
        folder = tmp_path / "runs" / str(made["seed"])
        folder.mkdir(parents=True)
        write_record(folder, made)
    collect([tmp_path / "runs"], tmp_path / "results")
    common = ["report", "--results", str(tmp_path / "results"), "--table", "3"]
    assert main(common) == 0
    assert "60.5 ± 0.7" in capsys.readouterr().out
    file = tmp_path / "table.md"
    written = [*common, "--format", "markdown", "--out", str(file)]
    assert main([*written, "--check"]) == 1
    assert not file.exists()
    assert main(written) == 0
    assert main([*written, "--check"]) == 0
    assert "| full" in file.read_text()
    assert main(["report", "--table", "5"]) == 2
    assert "mmcse efficiency" in capsys.readouterr().err
    assert main([*common, "--check"]) == 2


def test_unknown_tables_are_a_mistake():
    with pytest.raises(UserError, match="no table"):
        paper_table("12")


def test_own_tables_hold_floors_and_methods_on_the_same_data(smoke_bank, tmp_path, capsys):
    runs = tmp_path / "runs"
    assert main(["floors", "--bank", str(smoke_bank), "--record", str(runs)]) == 0
    collect([runs], tmp_path / "results")
    collected = read_results(tmp_path / "results")
    assert {result["name"] for result in collected} == {
        "floors/nothing", "floors/most_frequent_class", "floors/pseudo_labels", "floors/weak_label_everywhere",
    }  # fmt: skip
    [simulated] = result_tables(paper_table("baselines"), collected)
    assert simulated.kind == "simulated"
    by_row = {line.row.name: line for line in simulated.lines}
    assert by_row["weak"].cells["Avg"].ours.mean > by_row["nothing"].cells["Avg"].ours.mean
    assert by_row["mmcse"].cells["Avg"].verdict == "not run"
    text = render_text([simulated])
    assert "floor: nothing predicted" in text
    assert "Table" not in text.splitlines()[0]
    render_markdown([simulated]), render_latex([simulated]), render_csv([simulated])
