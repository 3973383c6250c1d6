"""`mmcse report --html`: from run folders to a page, and what it says where something is not there."""

import pytest
from made_up_pages import Parsed

import tiny
from made_up_outputs import outputs
from mmcse import cli
from mmcse.runs.record import write_record
from mmcse.train import train
from runs_made_up import record


@pytest.fixture
def runs(tmp_path):
    for made in (record(seed=0), record(seed=1), record("table3/no_secm", avg=50.0)):
        folder = tmp_path / "runs" / made["name"] / f"seed{made['seed']}"
        folder.mkdir(parents=True)
        write_record(folder, made)
    return tmp_path / "runs"


def report(*words):
    return cli.main(["report", *map(str, words)])


def test_runs_without_checkpoints_make_a_page_that_says_so(runs, tmp_path, capsys):
    assert report("--html", tmp_path / "a" / "page.html", runs) == 0
    shown = capsys.readouterr()
    assert "3 runs" in shown.out
    assert "No run has a checkpoint" in shown.err
    parsed = Parsed((tmp_path / "a" / "page.html").read_text(encoding="utf-8"))
    assert "No run has a checkpoint" in " ".join(parsed.text_of("p"))
    assert parsed.text_of("h1") == ["3 runs"]


def test_a_damaged_checkpoint_costs_the_videos_not_the_page(runs, tmp_path, capsys):
    checkpoint = runs / "table3" / "full" / "seed0" / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"nothing of the kind")
    assert report("--html", tmp_path / "page.html", runs) == 0
    assert "could not be parsed by table3/full, seed 0" in capsys.readouterr().err
    assert report("--html", tmp_path / "page.html", "--videos", 0, runs) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--html", "page.html"), "Name the runs of the page"),
        (("RUNS",), "Runs (and --override) belong to --html FILE"),
        (("--html", "page.html", "RUNS", "--table", "3"), "does not go with --table"),
        (("--html", "page.html", "RUNS", "--videos", "-1"), "expected a number of runs"),
        (("--html", "page.html", "RUNS", "--reference", "table3/fulll"), "Did you mean 'table3/full'"),
        (("--html", "page.html", "nowhere"), "no run at or below"),
    ],
)
def test_mistakes(runs, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert report(*(runs if word == "RUNS" else word for word in words)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_runs_held_against_other_annotations_do_not_share_the_videos(runs, tmp_path, monkeypatch, capsys):
    for file in runs.rglob("result.json"):
        (file.parent / "checkpoints").mkdir()
        (file.parent / "checkpoints" / "best.ckpt").touch()
    answers = iter([outputs(), outputs(seed=1)])
    monkeypatch.setattr("mmcse.runs.outputs.parse_split", lambda checkpoint, overrides: next(answers))
    assert report("--html", tmp_path / "page.html", runs) == 0
    assert "table3/no_secm, seed 0 is held against another annotation" in capsys.readouterr().err
    parsed = Parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "video-data" in [a.get("id") for a in parsed.all("script")]


@pytest.mark.slow
def test_from_training_to_a_page(smoke_bank, tmp_path, capsys):
    trained = [train(tiny.config(smoke_bank, tmp_path / "runs", f"seed={seed}")) for seed in (0, 1)]
    assert report("--html", tmp_path / "one.html", trained[0].folder) == 0
    assert report("--html", tmp_path / "two.html", tmp_path / "runs") == 0
    assert "could not" not in capsys.readouterr().err
    one, two = (Parsed((tmp_path / name).read_text(encoding="utf-8")) for name in ("one.html", "two.html"))
    avg = f"{trained[0].record['scores']['test']['Avg']:.2f}"
    assert avg in one.text_of("dd")
    assert avg in " ".join(two.text_of("td"))
    assert any("Training" in a["aria-label"] for a in one.all("svg"))
    assert any("co-occurrence" in a["aria-label"] for a in one.all("svg"))
    for parsed in (one, two):
        assert "video-data" in [a.get("id") for a in parsed.all("script")]
        assert "SIMULATED" in parsed.text_of("p")[0]
