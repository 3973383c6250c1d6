"""`mmcse eval` in process: a checkpoint scores what training said it does, and a wrong one is refused by name."""

import json

import numpy as np
import pytest
import torch

import tiny
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank, simulated_bank
from mmcse.errors import UserError
from mmcse.evaluate import evaluate
from mmcse.evaluation import parsing_scores
from mmcse.models import LSLD
from mmcse.models.checkpoint_files import save_network
from mmcse.train import train

CPU = ("trainer.accelerator=cpu",)


@pytest.fixture(scope="module")
def run(smoke_bank, tmp_path_factory):
    return train(tiny.config(smoke_bank, tmp_path_factory.mktemp("runs"), "trainer.max_epochs=3", "optimizer.lr=1e-2"))


@pytest.fixture(scope="module")
def checkpoint(run):
    return run.folder / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_checkpoint_scores_what_its_record_says(run, checkpoint, split, capsys):
    result = evaluate(compose_config("eval", [f"checkpoint={checkpoint}", f"split={split}", *CPU]))
    assert result["scores"] == run.record["scores"][split]
    assert result["gate"] == "video/visual"
    assert "SIMULATED" in capsys.readouterr().out


def test_written_scores_and_predictions_agree(run, checkpoint, smoke_bank, tmp_path):
    json_file, predictions = tmp_path / "scores.json", tmp_path / "predictions.npz"
    evaluate(
        compose_config("eval", [f"checkpoint={checkpoint}", f"json={json_file}", f"predictions={predictions}", *CPU])
    )
    written = json.loads(json_file.read_text())
    assert written["scores"] == run.record["scores"]["test"]
    split = FeatureBank.open(smoke_bank).split("test")
    with np.load(predictions) as file:
        ids, audio, visual = (file[name] for name in ("ids", "audio", "visual"))
    assert tuple(ids) == split.ids
    scores = parsing_scores(audio, visual, split.arrays["true_audio"], split.arrays["true_visual"])
    assert scores == pytest.approx({name: written["scores"][name] for name in scores}, abs=1e-9)


def test_other_data_of_the_same_shape_can_be_scored(checkpoint, tmp_path):
    other = simulated_bank(tmp_path / "other", preset="smoke", world=1, progress=False)
    result = evaluate(compose_config("eval", [f"checkpoint={checkpoint}", *tiny.data(other.folder), *CPU]))
    assert result["data"]["digest"] == other.digest


def test_gate_and_threshold_can_be_changed(run, checkpoint):
    scores = [
        evaluate(compose_config("eval", [f"checkpoint={checkpoint}", *CPU, *override]))["scores"]
        for override in ([], ["gate=none"], ["threshold=0.0"])
    ]
    assert scores[0] != scores[1] != scores[2]


def test_thresholds_of_the_gate_can_be_changed(checkpoint, smoke_bank, tmp_path):
    def result(file, *overrides):
        return evaluate(compose_config("eval", [f"checkpoint={file}", *CPU, *overrides]))

    usual, each = result(checkpoint), "visual_thresholds=[" + ",".join(["0.9"] * 25) + "]"
    assert (usual["gate_threshold"], usual["visual_thresholds"]) == (0.5, None)
    common, visual = result(checkpoint, "gate_threshold=0.9"), result(checkpoint, each)
    assert common["scores"]["segment/V"] == visual["scores"]["segment/V"] != usual["scores"]["segment/V"]
    assert common["scores"]["segment/A"] != visual["scores"]["segment/A"] == usual["scores"]["segment/A"]
    file = torch.load(checkpoint, weights_only=True)
    file["mmcse"]["evaluation"]["visual_thresholds"] = [0.9] * 25
    torch.save(file, tmp_path / "searched.ckpt")
    assert result(tmp_path / "searched.ckpt")["scores"] == visual["scores"]
    assert result(tmp_path / "searched.ckpt", "gate_threshold=0.5")["scores"] == usual["scores"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("visual_thresholds=[0.5,0.4]", "visual_thresholds has 2 numbers; expected one for each .* 25 classes"),
        ("gate_threshold=1.5", "A threshold of the gate is 1.5; expected a probability"),
        (f"visual_thresholds={[0.5] * 24 + [-1]}", "A threshold of the gate is -1.0; expected a probability"),
    ],
)
def test_impossible_thresholds_are_refused(checkpoint, override, said):
    with pytest.raises(UserError, match=said):
        evaluate(compose_config("eval", [f"checkpoint={checkpoint}", *CPU, override]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "There is no checkpoint"),
        (lambda file: file.write_bytes(b"no checkpoint"), "cannot be read as a checkpoint"),
        (lambda file: file.write_bytes(file.read_bytes()[:5000]), "cannot be read as a checkpoint"),
        (lambda file: torch.save({"state_dict": {}}, file), "not written by `mmcse train`"),
        (lambda file: torch.save(torch.nn.Linear(1, 1), file), "cannot be read as a checkpoint"),
    ],
)
def test_damaged_checkpoints_are_named(checkpoint, tmp_path, damage, said):
    file = tmp_path / "copy.ckpt"
    file.write_bytes(checkpoint.read_bytes())
    damage(file)
    with pytest.raises(UserError, match=said):
        evaluate(compose_config("eval", [f"checkpoint={file}", *CPU]))


def test_features_that_do_not_fit_are_refused(checkpoint, tmp_path):
    other = simulated_bank(tmp_path / "narrow", preset="smoke", audio_dim=16, progress=False)
    with pytest.raises(UserError, match="audio_dim 768, data 16"):
        evaluate(compose_config("eval", [f"checkpoint={checkpoint}", *tiny.data(other.folder), *CPU]))


@pytest.mark.parametrize("motion", [False, True])
def test_a_stream_that_is_not_read_may_be_of_any_width(motion, smoke_bank, tmp_path):
    """An imported LSLD knows no width of motion, which its authors' network does not read."""
    widths = FeatureBank.open(smoke_bank).dims
    other = simulated_bank(tmp_path / "other", preset="smoke", motion_dim=16, progress=False)
    sizes = {"hidden_dim": 8, "num_layers": 1, "feedforward_dim": 8, "motion": motion}
    arguments = sizes | {"audio_dim": widths["audio"], "visual_dim": widths["visual"], "motion_dim": widths["motion"]}
    arguments |= {"num_classes": 25, "num_segments": 10}
    save_network(tmp_path / "lsld", LSLD(**arguments), arguments)
    score = compose_config("eval", [f"checkpoint={tmp_path / 'lsld'}", *tiny.data(other.folder), *CPU])
    if motion:
        with pytest.raises(UserError, match="motion_dim 512, data 16"):
            evaluate(score)
    else:
        assert evaluate(score)["gate"] == "audio/visual"


def test_training_videos_cannot_be_scored(checkpoint):
    with pytest.raises(UserError, match="expected 'val' or 'test'"):
        evaluate(compose_config("eval", [f"checkpoint={checkpoint}", "split=train", *CPU]))
