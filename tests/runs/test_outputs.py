"""What a checkpoint says about a split, as arrays: the same decisions that its scores are of."""

import numpy as np
import pytest
import torch

import tiny
from mmcse.batch import Batch
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank, simulated_bank
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluation import parsing_scores
from mmcse.models import MGN
from mmcse.parser import VideoParser
from mmcse.runs.outputs import SAMPLE, _of_videos, _sample, parse_split
from mmcse.train import train

pytestmark = pytest.mark.slow

CPU = ("trainer.accelerator=cpu",)


@pytest.fixture(scope="module")
def run(smoke_bank, tmp_path_factory):
    config = tiny.config(smoke_bank, "", "trainer.max_epochs=3", "optimizer.lr=1e-2")
    config.run.root = str(tmp_path_factory.mktemp("it's (a) folder, with = signs"))
    return train(config)


@pytest.fixture(scope="module")
def checkpoint(run):
    return run.folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def outputs(checkpoint):
    return parse_split(checkpoint, "test", CPU, features=True)


@pytest.mark.parametrize("split", ["val", "test"])
def test_decisions_and_truth_score_what_the_record_says(run, checkpoint, split):
    outputs = parse_split(checkpoint, split, CPU)
    scores = parsing_scores(*np.moveaxis(outputs.predicted, 2, 0), *np.moveaxis(outputs.true, 2, 0))
    recorded = run.record["scores"][split]
    assert scores == pytest.approx({name: recorded[name] for name in scores}, abs=1e-9)


def test_videos_and_names_are_those_of_the_bank(outputs, smoke_bank):
    bank = FeatureBank.open(smoke_bank)
    split = bank.split("test")
    assert (outputs.ids, outputs.classes, outputs.kind) == (split.ids, bank.classes, "simulated")
    np.testing.assert_array_equal(outputs.true[:, :, 1], split.arrays["true_visual"])
    np.testing.assert_array_equal(outputs.weak, split.arrays["weak"])
    assert outputs.title == "MMCSE, seed 87, test"


def test_decisions_follow_from_the_probabilities(outputs):
    assert (outputs.gate, outputs.threshold) == ("video/visual", 0.5)
    np.testing.assert_array_equal(outputs.passed, np.stack((outputs.video_prob, outputs.visual_prob), axis=1) >= 0.5)
    np.testing.assert_array_equal(outputs.predicted, (outputs.segment_prob >= 0.5) & outputs.passed[:, None])


def test_only_the_gate_decides_what_passes_it():
    torch.manual_seed(0)
    network = MGN(5, 5, 5, 3, 4, 8, num_heads=2, soft_map="assignment").eval()  # its segments' scores are not of logits
    parser = VideoParser(network, lambda out, batch: {}, num_classes=3, gate="audio/visual", threshold=0.5)
    truth = torch.zeros(6, 4, 3)
    streams = dict(zip(("audio", "visual", "motion"), torch.randn(3, 6, 4, 5), strict=True))
    batch = Batch(**streams, weak=truth[:, 0], true_audio=truth, true_visual=truth)
    with torch.no_grad():
        out = network(batch.audio, batch.visual, batch.motion)
    passed = _of_videos(out, parser, batch)["passed"]
    np.testing.assert_array_equal(passed, torch.stack((out.audio_prob, out.visual_prob), dim=1) >= 0.5)
    assert passed.any()


def test_maps_are_distributions_over_keys(outputs):
    K = len(outputs.classes)
    assert set(outputs.cooccurrence) == {"aa", "av", "vv", "va"}
    for of_direction in outputs.cooccurrence.values():
        assert of_direction.shape == (K, K)
        np.testing.assert_allclose(of_direction.sum(axis=1), 1, atol=1e-5)


def test_maps_do_not_depend_on_the_batches(outputs, checkpoint, smoke_bank):
    others = parse_split(checkpoint, "test", (*CPU, *tiny.data(smoke_bank), "data.eval_batch_size=7"), features=True)
    for name, of_direction in outputs.cooccurrence.items():
        np.testing.assert_allclose(others.cooccurrence[name], of_direction, atol=1e-7)
    np.testing.assert_allclose(others.features.event_features, outputs.features.event_features, atol=1e-5)
    np.testing.assert_array_equal(others.features.true, outputs.features.true)


def test_features_are_those_of_a_sample_of_segments(outputs):
    N, T, _, K = outputs.true.shape
    n, features = min(SAMPLE, N * T), outputs.features
    assert n < N * T  # so that it is a sample
    assert features.holistic.shape == (n, 2, 16)
    assert features.event_features.shape == (n, 2, K, 8)
    assert features.background.shape == (n, 2, 8)
    np.testing.assert_array_equal(features.true, outputs.true.reshape(-1, 2, K)[_sample(N * T)])


def test_a_sample_is_the_same_for_every_network(checkpoint, monkeypatch):
    monkeypatch.setattr("mmcse.runs.outputs.SAMPLE", 33)
    once, again = (parse_split(checkpoint, "test", (*CPU, f"gate={gate}"), features=True) for gate in ("none", "null"))
    assert len(once.features.true) == 33
    np.testing.assert_array_equal(once.features.holistic, again.features.holistic)


def test_features_are_kept_only_on_request(checkpoint):
    assert parse_split(checkpoint, "test", CPU).features is None


def test_another_method_has_outputs_but_no_maps(smoke_bank, tmp_path):
    overrides = [*tiny.data(smoke_bank), *tiny.TRAINING, "trainer.max_epochs=1", f"run.root={tmp_path}"]
    other = train(compose_config("train", ["model=probe", "model.hidden_dim=8", *overrides]))
    outputs = parse_split(other.folder / "checkpoints" / "best.ckpt", "test", CPU)
    assert outputs.cooccurrence is None
    assert outputs.gate == "video/video"
    with pytest.raises(UserError, match="does not decouple features"):
        parse_split(other.folder / "checkpoints" / "best.ckpt", "test", CPU, features=True)


def test_other_data_can_be_parsed_and_misfits_are_refused(checkpoint, tmp_path):
    other = simulated_bank(tmp_path / "other", preset="smoke", world=1, progress=False)
    assert parse_split(checkpoint, "val", (*CPU, *tiny.data(other.folder))).ids == other.split("val").ids
    narrow = simulated_bank(tmp_path / "narrow", preset="smoke", audio_dim=16, progress=False)
    with pytest.raises(UserError, match="audio_dim 768, data 16"):
        parse_split(checkpoint, "test", (*CPU, *tiny.data(narrow.folder)))


def test_mistakes_are_named(checkpoint, tmp_path):
    with pytest.raises(MissingFileError, match="no checkpoint"):
        parse_split(tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="expected 'val' or 'test'"):
        parse_split(checkpoint, "train")
