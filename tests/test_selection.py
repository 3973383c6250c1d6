"""Which epoch is kept and tested: the last one, the best on validation, on test as published, and DHHN's pair."""

import csv
import json

import pytest
import torch

import mmcse.parser
import tiny
from mmcse.configuration import compose_config
from mmcse.data import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluate import evaluate, prepare_evaluation, read_checkpoint
from mmcse.evaluation.thresholds import search_visual_thresholds
from mmcse.models import DHHNPair
from mmcse.runs.collect import result_of
from mmcse.runs.tables import settings_of
from mmcse.train import summary, train

pytestmark = pytest.mark.slow


def run_of(bank, root, *chosen):
    chosen = (*chosen, *tiny.data(bank), *tiny.TRAINING, "stages=none", "trainer.max_epochs=3")
    return train(compose_config("train", [*chosen, *tiny.method(*chosen), f"run.root={root}"]))


def scores(run, split="test"):
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    overrides = [f"checkpoint={checkpoint}", f"split={split}", "trainer.accelerator=cpu"]
    return evaluate(compose_config("eval", overrides))["scores"]


def rows(run):
    with open(run.folder / "history.csv", newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def test_the_last_epoch_is_kept_where_it_is_the_rule(smoke_bank, tmp_path):
    run = run_of(smoke_bank, tmp_path, "model=ma")
    assert run.record["selection"] == {"rule": "last epoch", "epoch": 3}
    best, last = (read_checkpoint(run.folder / "checkpoints" / name)[1] for name in ("best.ckpt", "last.ckpt"))
    assert all(torch.equal(tensor, last[name]) for name, tensor in best.items())
    assert scores(run, "val") == run.record["scores"]["val"]


def test_of_epochs_with_the_same_score_the_last_is_kept(smoke_bank, tmp_path):
    run = run_of(smoke_bank, tmp_path, "model=jomold", "optimizer.lr=0")
    assert len({row["val/event/A"] for row in rows(run)}) == 1
    assert run.record["selection"]["epoch"] == 3
    assert torch.load(run.folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 2  # counted from 0


@pytest.fixture(scope="module")
def published(smoke_bank, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return run_of(smoke_bank, root, "model=cvcms", "evaluation.select_on_test=true", "optimizer.lr=3e-3")


def test_selection_on_test_marks_everything(published):
    assert "TEST" in published.record["selection"]["rule"]
    assert "SELECTED ON TEST" in summary(published)
    best = max(reversed(rows(published)), key=lambda row: row["val/event/Type"])  # of equal epochs the last
    assert published.record["selection"]["epoch"] == best["epoch"]
    for name, score in published.record["scores"]["test"].items():
        assert score == pytest.approx(best[f"val/{name}"], abs=1e-9)  # it validated on the test videos
    assert settings_of(result_of(published.record))["evaluation.select_on_test"] is True


def test_a_checkpoint_that_was_selected_on_test_is_validated_on_validation(published, smoke_bank):
    assert scores(published, "val") != published.record["scores"]["val"]
    assert scores(published) == published.record["scores"]["test"]


def test_the_pair_of_dhhn_is_the_best_epoch_of_each_modality(smoke_bank, tmp_path):
    run = run_of(smoke_bank, tmp_path, "model=dhhn", "optimizer.lr=3e-3")
    _, parser, *_ = prepare_evaluation(
        compose_config("eval", [f"checkpoint={run.folder / 'checkpoints' / 'best.ckpt'}", "trainer.accelerator=cpu"])
    )
    assert isinstance(parser.network, DHHNPair)
    pair = run.record["selection"]["pair"]
    assert f"best epochs {pair['audio']['epoch']} (audio), {pair['visual']['epoch']} (visual) of 3" in summary(run)
    for modality, letter in (("audio", "A"), ("visual", "V")):
        values = [(row[f"val/segment/{letter}"] + row[f"val/event/{letter}"]) / 2 for row in rows(run)]
        found = run.record["selection"]["pair"][modality]
        assert found == {"epoch": values.index(max(values)) + 1, "value": max(values)}
        kept = read_checkpoint(run.folder / "checkpoints" / f"{modality}.ckpt")[1]
        own = parser.network.get_submodule(f"{modality}_parser").state_dict()
        assert all(torch.equal(tensor, kept[f"parser.{name}"]) for name, tensor in own.items())
        at_best = rows(run)[values.index(max(values))]
        assert run.record["scores"]["val"][f"segment/{letter}"] == pytest.approx(at_best[f"val/segment/{letter}"])
    assert scores(run) == run.record["scores"]["test"]


def test_a_pair_of_anything_else_is_refused(smoke_bank, tmp_path):
    with pytest.raises(UserError, match="test_pair is for the network of DHHN, not for HAN"):
        run_of(smoke_bank, tmp_path, "model=han", "evaluation.test_pair=true")


@pytest.mark.parametrize("after", [1, 9])
def test_thresholds_are_searched_on_validation_on_an_early_state(smoke_bank, tmp_path, after):
    run = run_of(smoke_bank, tmp_path, "model=cmpae", "optimizer.lr=3e-3", f"evaluation.search_thresholds={after}")
    folder = run.folder / "checkpoints"
    assert torch.load(folder / "early.ckpt", weights_only=True)["epoch"] == min(after, 3) - 1
    _, parser, *_ = prepare_evaluation(
        compose_config("eval", [f"checkpoint={folder / 'early.ckpt'}", "trainer.accelerator=cpu"])
    )
    videos = AVVPDataModule(smoke_bank).bank.split("val")
    batch = videos.gather(torch.arange(len(videos)).numpy())
    with torch.no_grad():
        out = parser.eval()(batch.audio, batch.visual, batch.motion)
    expected = search_visual_thresholds(
        (out.segment_prob[:, :, 1] >= 0.25).numpy(), out.visual_prob.numpy(), (batch.true_visual > 0).numpy()
    )
    assert run.record["visual_thresholds"] == expected.tolist()
    assert set(expected) - {0.7}  # the search has something to choose
    assert scores(run) == run.record["scores"]["test"]
    assert json.loads((run.folder / "result.json").read_text())["visual_thresholds"] == expected.tolist()


def test_thresholds_are_searched_on_validation_where_epochs_are_selected_on_test(smoke_bank, tmp_path):
    chosen = ("model=cmpae", "optimizer.lr=3e-3", "evaluation.search_thresholds=1")
    usual, published = (
        run_of(smoke_bank, tmp_path / str(on_test), *chosen, f"evaluation.select_on_test={on_test}")
        for on_test in (False, True)
    )
    assert published.record["visual_thresholds"] == usual.record["visual_thresholds"]


PATIENT = ("model=cvcms", "optimizer.lr=0", "evaluation.patience=1")  # no epoch is better than the first


def test_a_training_that_gets_no_better_ends(smoke_bank, tmp_path, caplog):
    run = run_of(smoke_bank, tmp_path, *PATIENT)
    assert [row["epoch"] for row in rows(run)] == [1, 2]
    assert run.record["selection"] | {"epoch": 2, "ended": 2} == run.record["selection"]  # the later of equal ones
    assert "Training ends after epoch 2: val/event/Type did not rise for 1." in caplog.text
    assert "best epoch 2 of 2" in summary(run)
    assert scores(run, "val") == run.record["scores"]["val"]


def test_a_training_that_gets_better_goes_on(smoke_bank, tmp_path):
    run = run_of(smoke_bank, tmp_path, "model=cvcms", "optimizer.lr=3e-3", "evaluation.patience=3")
    assert len(rows(run)) == 3
    assert "ended" not in run.record["selection"]


@pytest.mark.parametrize("stopped_in", ["an epoch", "the test"])
def test_patience_outlasts_an_interruption(smoke_bank, tmp_path, monkeypatch, stopped_in):
    def stopped(self, batch, batch_idx):
        if stopped_in == "the test" or self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    name = {"an epoch": "training_step", "the test": "test_step"}[stopped_in]
    step = getattr(mmcse.parser.VideoParser, name)
    with monkeypatch.context() as patch:
        patch.setattr(mmcse.parser.VideoParser, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            run_of(smoke_bank, tmp_path, *PATIENT)
    resumed = run_of(smoke_bank, tmp_path, *PATIENT)
    assert [row["epoch"] for row in rows(resumed)] == [1, 2]
    assert resumed.record["selection"]["ended"] == 2


def test_thresholds_are_searched_after_the_last_epoch_where_training_ends_early(smoke_bank, tmp_path):
    chosen = ("model=cmpae", "optimizer.lr=0", "evaluation.patience=1", "evaluation.search_thresholds=3")
    run = run_of(smoke_bank, tmp_path, *chosen)
    assert torch.load(run.folder / "checkpoints" / "early.ckpt", weights_only=True)["epoch"] == 1  # counted from 0
    assert len(run.record["visual_thresholds"]) == 25


def test_an_interrupted_run_keeps_its_pair(smoke_bank, tmp_path, monkeypatch):
    whole = run_of(smoke_bank, tmp_path / "whole", "model=dhhn", "optimizer.lr=3e-3")
    step = mmcse.parser.VideoParser.training_step

    def stopping(self, batch, batch_idx):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(mmcse.parser.VideoParser, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_of(smoke_bank, tmp_path / "broken", "model=dhhn", "optimizer.lr=3e-3")
    resumed = run_of(smoke_bank, tmp_path / "broken", "model=dhhn", "optimizer.lr=3e-3")
    assert resumed.record["selection"] == whole.record["selection"]
    assert resumed.record["scores"] == whole.record["scores"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.gate_threshold=2", "evaluation.gate_threshold is 2.0; expected a probability"),
        ("evaluation.search_thresholds=0", "evaluation.search_thresholds is 0; expected an epoch"),
        ("evaluation.select=latest", "Did you mean 'last'"),
        ("evaluation.patience=0", "evaluation.patience is 0; expected a number of epochs"),
    ],
)
def test_impossible_selections_are_refused(smoke_bank, tmp_path, override, said):
    with pytest.raises(UserError, match=said):
        train(tiny.config(smoke_bank, tmp_path, override))


def test_patience_with_the_last_epoch_is_refused(smoke_bank, tmp_path):
    with pytest.raises(UserError, match=r"evaluation\.patience is 2, and evaluation\.select=last looks at no score"):
        run_of(smoke_bank, tmp_path, "model=ma", "evaluation.patience=2")
