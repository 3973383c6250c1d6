"""`mmcse figures`, and the figures of tables."""

import pytest

import runs_made_up as runs
import tiny
from mmcse.cli import EXIT_MISTAKE, main
from mmcse.errors import UserError
from mmcse.figures import table_figure
from mmcse.files import write_json
from mmcse.runs.collect import result_of
from mmcse.runs.paper import paper_table
from mmcse.runs.tables import result_tables
from mmcse.train import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(smoke_bank, tmp_path_factory):
    overrides = ("model.num_layers=1", "optimizer.lr=1e-2")
    return train(tiny.config(smoke_bank, tmp_path_factory.mktemp("runs"), *overrides)).folder


def tables(*records, number="3"):
    return result_tables(paper_table(number), [result_of(record) for record in records])


def test_a_run_is_drawn_with_its_curves_and_the_named_video(run, smoke_bank, tmp_path, capsys):
    from mmcse.data import FeatureBank

    video = FeatureBank.open(smoke_bank).split("val").ids[3]
    words = ["figures", str(run), "--out", str(tmp_path), "--format", "png", "--split", "val", "--video", video]
    assert main([*words, "--override", "trainer.accelerator=cpu"]) == 0
    expected = ["curves", "classes", "confusion", "reliability", "thresholds", "cooccurrence", f"video-{video}"]
    files = [str(tmp_path / f"{name}.png") for name in expected]
    assert capsys.readouterr().out.splitlines() == files
    assert sorted(map(str, tmp_path.iterdir())) == sorted(files)


@pytest.mark.slow
def test_a_checkpoint_alone_has_no_curves(run, tmp_path, capsys):
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["figures", str(checkpoint), "--out", str(tmp_path), "--baseline", str(run)]) == 0
    names = {file.stem for file in tmp_path.iterdir()}
    assert "classes" in names
    assert "curves" not in names
    assert "(baseline)" in next(tmp_path.glob("video-*.svg")).read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to draw"),
        (["none"], "There is no checkpoint at none"),
        (["--table", "3", "--results", "none"], "holds no result of table 3"),
        (["--table", "12"], "no table '12'"),
        (["--table", "5"], "Table 5 is about cost"),
    ],
)
def test_mistakes_are_named(words, said, tmp_path, capsys):
    assert main(["figures", *words, "--out", str(tmp_path / "out")]) == EXIT_MISTAKE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tables_are_drawn_from_collected_results(tmp_path, capsys):
    pytest.importorskip("scipy")
    for seed in range(3):
        for name, avg in (("table3/full", 60.0 + seed), ("table3/no_secm", 58.0)):
            write_json(tmp_path / "runs" / f"{name}-{seed}" / "result.json", runs.record(name, seed=seed, avg=avg))
    results, out = str(tmp_path / "results"), str(tmp_path / "out")
    assert main(["collect", str(tmp_path / "runs"), "--out", results]) == 0
    assert main(["figures", "--table", "3", "--results", results, "--out", out, "--format", "pdf"]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["table-3-simulated.pdf"]


def test_a_table_s_bars_are_its_values_and_paired_differences():
    pytest.importorskip("scipy")
    made = [runs.record("table3/full", seed=seed, avg=60.0 + seed) for seed in range(3)]
    made += [runs.record("table3/no_secm", seed=seed, avg=58.0) for seed in range(2)]
    [table] = [table for table in tables(*made) if table.kind == "simulated"]
    bars, differences = table_figure(table).axes
    assert [bar.get_width() for bar in bars.patches] == [61, 58]
    assert [bar.get_width() for bar in differences.patches] == [-2.5]
    points = [line.get_xdata().tolist() for line in differences.lines if line.get_label() == "single run or world"]
    assert points == [[-2, -3]]


def test_the_paper_s_numbers_are_drawn_beside_real_data_only():
    pytest.importorskip("scipy")

    def drawn(kind):
        [table] = [t for t in tables(runs.record("table3/full", kind=kind)) if t.kind == kind]
        lines = table_figure(table).axes[0].lines
        return [line.get_xdata()[0] for line in lines if line.get_label() == "paper"]

    assert 65.4 in drawn("real")
    assert drawn("simulated") == []


def test_tables_without_results_or_columns_say_so():
    [empty] = tables()
    with pytest.raises(UserError, match="No results fill"):
        table_figure(empty)
    with pytest.raises(UserError, match=r"no column 'Tipe'.*Did you mean 'Type'"):
        table_figure(empty, "Tipe")
