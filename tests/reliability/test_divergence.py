"""Numbers that are not finite stop a run, and what is needed to look at the batch stays behind."""

import json

import pytest
import torch
from killable import narrow_bank

import tiny
from mmcse.data import FeatureBank
from mmcse.errors import DivergedError
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.models import MMCSE
from mmcse.objectives import MMCSEObjective
from mmcse.runs.record import read_record
from mmcse.train import train


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return narrow_bank(tmp_path_factory.mktemp("narrow") / "bank")


def config(bank, root, *overrides):
    return tiny.config(bank, root, "data.batch_size=8", "threads=1", *overrides)


def diverged(bank, root, *overrides):
    """Train to the divergence; the error, and what it left."""
    with pytest.raises(DivergedError) as caught:
        train(config(bank, root, *overrides))
    [file] = root.rglob("diverged.json")
    return caught.value, file.parent, json.loads(file.read_text())


def nth_call(function, number, spoil):
    """The function, whose result is spoilt at a call."""
    calls = iter(range(1_000))

    def spoilt(*args, **kwargs):
        result = function(*args, **kwargs)
        return spoil(result) if next(calls) == number else result

    return spoilt


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_videos(bank, tmp_path, monkeypatch, value):
    def spoil(losses):
        return losses | {"video": losses["video"] * value, "total": losses["total"] * value}

    monkeypatch.setattr(MMCSEObjective, "__call__", nth_call(MMCSEObjective.__call__, 2, spoil))
    error, folder, left = diverged(bank, tmp_path)
    assert "the losses (total, video) are not finite" in str(error)
    assert (left["epoch"], left["batch"]) == (error.epoch + 1, error.batch_idx + 1)
    assert tuple(left["ids"]) == error.ids
    assert set(left["ids"]) <= set(FeatureBank.open(bank).split("train").ids)
    assert left["largest_feature"]["audio"] > 0
    record = read_record(folder)
    assert record["status"] == "failed"
    assert record["error"] == str(error)


def test_gradients_that_are_not_finite_never_reach_the_weights(bank, tmp_path, monkeypatch):
    forward = MMCSE.forward

    def poisoned(self, *streams, **kwargs):
        out = forward(self, *streams, **kwargs)
        out.segment_logits.register_hook(lambda gradient: gradient * float("nan"))
        return out

    monkeypatch.setattr(MMCSE, "forward", poisoned)
    error, folder, left = diverged(bank, tmp_path)
    assert "the gradients are not finite in epoch 1, batch 1" in str(error)
    assert left["batch"] == 1
    _, weights = read_checkpoint(folder / "diverged.ckpt")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_the_batch_can_be_tried_again_from_what_was_left(bank, tmp_path):
    error, folder, left = diverged(bank, tmp_path, "optimizer.lr=1e30", "scheduler.warmup_epochs=0")
    assert "the network's output is" in str(error)
    split = FeatureBank.open(bank).split("train")
    batch = split.gather([split.ids.index(video) for video in left["ids"]])
    network = rebuild(*read_checkpoint(folder / "diverged.ckpt"))
    assert not network(batch.audio, batch.visual, batch.motion).segment_logits.isfinite().all()
    assert all(stream.isfinite().all() for stream in (batch.audio, batch.visual, batch.motion))


def test_the_same_command_diverges_at_the_same_batch_and_a_cured_run_leaves_no_trace(bank, tmp_path, monkeypatch):
    spoil = {"total": torch.tensor(float("nan"))}
    lefts = []
    for _ in range(2):
        with monkeypatch.context() as patch:
            # epoch 2: resumed from the checkpoint of the first, the second time
            patch.setattr("mmcse.parser.VideoParser.training_step", stopping(spoil))
            lefts.append(diverged(bank, tmp_path)[2])
    assert lefts[0] == lefts[1]
    run = train(config(bank, tmp_path))
    assert run.record["status"] == "ok"
    assert not list(run.folder.glob("diverged.*"))


def stopping(losses):
    from mmcse.parser import VideoParser

    step = VideoParser.training_step

    def diverging(self, batch, batch_idx):
        if (self.current_epoch, batch_idx) == (1, 1):
            self.objective = lambda out, batch: losses
        return step(self, batch, batch_idx)

    return diverging
