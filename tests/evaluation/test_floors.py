"""Floors and ceilings: by hand on a small example, and on LLP's real annotations."""

import json

import numpy as np
import pytest

from mmcse.cli import main
from mmcse.data import FeatureBank
from mmcse.data.annotations import ORIGINAL_AUDIO_FILE
from mmcse.evaluation import parsing_scores
from mmcse.evaluation.floors import most_frequent_class, nothing, reference_rows, weak_label_everywhere

KEYS = ("segment/A", "segment/V", "segment/AV", "segment/Type", "segment/Event")


def test_each_floor_decides_as_its_name_says():
    weak = np.array([[1, 0, 1], [0, 0, 1]])
    audio, visual = nothing((2, 4, 3))
    assert not audio.any()
    assert not visual.any()
    audio, visual = most_frequent_class(weak, (5, 4, 3))
    assert audio.shape == (5, 4, 3)
    assert audio[..., 2].all()
    assert audio.sum() == 20
    assert not visual.any()
    audio, visual = weak_label_everywhere(weak, 4)
    assert (audio == weak[:, None]).all()
    assert (visual == audio).all()
    assert audio.shape == (2, 4, 3)


def test_perfect_pseudo_labels_score_100_and_absent_ones_give_no_row():
    rng = np.random.default_rng(0)
    true_audio, true_visual = rng.random((2, 6, 4, 3)) < 0.4
    weak = true_audio.any(1) | true_visual.any(1)
    rows = reference_rows(true_audio, true_visual, weak, weak, (true_audio, true_visual))
    assert set(rows["pseudo labels"].values()) == {100.0}
    assert "pseudo labels" not in reference_rows(true_audio, true_visual, weak, weak)


def test_scores_on_the_real_annotations_are_the_known_ones(shared, tmp_path, capsys):
    llp, file = shared / "llp", tmp_path / "floors.json"
    assert main(["floors", "--annotations", str(llp), "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    expected = {
        "nothing": (0.50, 10.08, 14.50, 8.36, 0.00),
        "most frequent class": (16.56, 10.08, 14.50, 13.72, 14.41),
        "weak label everywhere": (76.12, 60.35, 52.61, 63.03, 71.73),
    }
    assert {name: tuple(round(scores[key], 2) for key in KEYS) for name, scores in rows.items()} == expected
    assert "real data" in capsys.readouterr().out
    assert main(["floors", "--annotations", str(llp), "--audio-file", ORIGINAL_AUDIO_FILE, "--json", str(file)]) == 0
    assert json.loads(file.read_text())["rows"] != rows


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_bank_gives_the_pseudo_labels_a_row_too(smoke_bank, tmp_path, capsys, split):
    file = tmp_path / "floors.json"
    assert main(["floors", "--bank", str(smoke_bank), "--split", split, "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["kind"] == "simulated"
    arrays = FeatureBank.open(smoke_bank).split(split).arrays
    names = ("pseudo_audio", "pseudo_visual", "true_audio", "true_visual")
    assert written["rows"]["pseudo labels"] == parsing_scores(*(arrays[name] for name in names))
    out = capsys.readouterr().out
    assert "SIMULATED" in out
    assert "weak label everywhere" in out


def test_an_annotation_file_does_not_go_with_a_bank(smoke_bank, capsys):
    assert main(["floors", "--bank", str(smoke_bank), "--audio-file", "x.csv"]) == 2
    assert "--audio-file belongs to --annotations" in capsys.readouterr().err
