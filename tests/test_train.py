"""Training from a composed configuration: what a run leaves, how it goes on, and what stops it."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch

import tiny
from mmcse.configuration import compose_config
from mmcse.errors import UserError
from mmcse.evaluate import read_checkpoint
from mmcse.runs.record import read_record
from mmcse.train import summary, train

SCORES = {f"{level}/{s}" for level in ("segment", "event") for s in ("A", "V", "AV", "Type", "Event")}
SCORES |= {"Avg", "video/F1", "video/F1_macro"}


@pytest.fixture(scope="module")
def finished(smoke_bank, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return train(tiny.config(smoke_bank, root))


def test_a_run_leaves_checkpoints_curves_configuration_and_record(finished):
    folder = finished.folder
    stored = read_record(folder)
    assert stored["status"] == "ok"
    assert set(stored["scores"]["test"]) == set(stored["scores"]["val"]) == SCORES
    assert stored["data"]["kind"] == "simulated"
    assert stored["selection"]["rule"] == "max val/segment/Type"
    assert set(stored["losses"]) == {"total", "video", "segment_audio", "segment_visual", "reconstruction",
                                     "orthogonality", "cooccurrence"}  # fmt: skip
    assert len(stored["per_class"]["segment/A"]["F"]) == 25
    assert stored["parameters"]["inference"] > stored["parameters"]["training_only"] > 0
    assert stored["seconds"]["total"] >= stored["seconds"]["fit"] > 0
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (folder / "config.yaml").is_file()


def test_curves_hold_every_epoch_once_in_double_precision(finished):
    folder, record = finished
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    best = rows[record["selection"]["epoch"] - 1]
    for name, score in record["scores"]["val"].items():
        assert float(best[f"val/{name}"]) == score
    assert [float(row["lr"]) for row in rows] == pytest.approx([3e-5, 6e-5])  # warm-up over ten epochs


def test_the_summary_says_simulated_and_where_everything_is(finished):
    text = summary(finished)
    assert "SIMULATED" in text
    assert str(finished.folder) in text


def test_runs_of_leap_that_were_given_no_label_embeddings_are_marked(smoke_bank, tmp_path, caplog):
    tiny_leap = ["model=leap", "model.encoder=han", *tiny.method("model=leap"), "trainer.max_epochs=1"]
    config = compose_config(
        "train", [*tiny.data(smoke_bank), *tiny.TRAINING, *tiny_leap, "run.tags=[mine]", f"run.root={tmp_path}"]
    )
    run = train(config)
    assert run.record["tags"] == ["mine", "made-up label embeddings"]
    assert "MADE-UP LABEL EMBEDDINGS" in summary(run)
    assert any("not the published method" in message for message in caplog.messages)
    np.save(tmp_path / "glove.npy", np.ones((25, 4)))
    config.model.label_embeddings = str(tmp_path / "glove.npy")
    given = train(config)
    assert given.record["tags"] == ["mine"]
    assert "MADE-UP" not in summary(given)


def test_checkpoints_load_weights_only_and_say_what_they_are(finished):
    for name in ("best.ckpt", "last.ckpt"):
        card, weights = read_checkpoint(finished.folder / "checkpoints" / name)
        assert card["model"]["hidden_dim"] == 16
        assert card["model"]["num_classes"] == len(card["classes"])
        assert card["evaluation"]["gate"] == "video/visual"
        assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())


def test_a_finished_run_is_not_repeated(finished, smoke_bank, caplog):
    before = (finished.folder / "result.json").read_bytes()
    again = train(tiny.config(smoke_bank, finished.folder.parents[1]))
    assert again.folder == finished.folder
    assert "has finished before" in caplog.text
    assert (finished.folder / "result.json").read_bytes() == before


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(finished, smoke_bank, tmp_path):
    same = train(tiny.config(smoke_bank, tmp_path))
    other = train(tiny.config(smoke_bank, tmp_path, "seed=0"))
    weights = [read_checkpoint(run.folder / "checkpoints" / "last.ckpt")[1] for run in (finished, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert same.folder.name == finished.folder.name
    assert other.record["scores"]["test"] != same.record["scores"]["test"]
    assert other.record["identity"] == same.record["identity"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lr=1e30", "Training diverged: the network's output is not finite in epoch 1, batch 2"),
        ("evaluation.threshold=7", "expected a probability from 0 to 1"),
        ("trainer.devices=2", "torchrun --nproc-per-node=N"),
        ("trainer.devices=[0,1]", "torchrun --nproc-per-node=N"),
        ("trainer.precision=64-true", "expected one of 32-true, bf16-mixed, 16-mixed"),
        ("+trainer.check_val_every_n_epoch=2", "a run consists of whole epochs, each of which is validated"),
        ("+trainer.max_steps=3", "a run consists of whole epochs"),
        ("+trainer.limit_val_batches=0", "every epoch is validated"),
        ("seed=20250101120000", "expected 4294967295 or less"),
        ("evaluation.select=test/Avg", "Expected one of val/segment/A"),
    ],
)
def test_what_cannot_come_to_anything_is_stopped_with_advice(smoke_bank, tmp_path, override, said):
    config = tiny.config(smoke_bank, tmp_path, override, "scheduler.warmup_epochs=0")
    with pytest.raises(UserError, match=re.escape(said)):
        train(config)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopError])
def test_an_interrupted_run_goes_on_to_the_same_bits(smoke_bank, tmp_path, monkeypatch, error):
    overrides = ("trainer.max_epochs=4",)
    whole = train(tiny.config(smoke_bank, tmp_path / "whole", *overrides))

    import mmcse.parser

    step = mmcse.parser.VideoParser.training_step

    def stopping(self, batch, batch_idx):
        if self.current_epoch == 2 and batch_idx == 1:
            raise error
        return step(self, batch, batch_idx)

    monkeypatch.setattr(mmcse.parser.VideoParser, "training_step", stopping)
    with pytest.raises(error):
        train(tiny.config(smoke_bank, tmp_path / "broken", *overrides))
    monkeypatch.undo()
    folder = tmp_path / "broken" / whole.folder.relative_to(tmp_path / "whole")
    stopped = read_record(folder)
    assert stopped["status"] == ("interrupted" if error is KeyboardInterrupt else "failed")
    assert ("traceback" in stopped) == (error is StopError)

    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    until_stopped = last["callbacks"]["History"]["seconds"]
    resumed = train(tiny.config(smoke_bank, tmp_path / "broken", *overrides))
    assert resumed.folder == folder
    assert resumed.record["seconds"]["fit"] > until_stopped > 0
    assert resumed.record["scores"] == whole.record["scores"]
    assert resumed.record["selection"] == whole.record["selection"]
    assert (folder / "history.csv").read_bytes() == (whole.folder / "history.csv").read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (folder, whole.folder))
        for key, tensor in theirs["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], tensor), (name, key)
        assert ours["optimizer_states"][0]["state"][0]["exp_avg"].equal(
            theirs["optimizer_states"][0]["state"][0]["exp_avg"]
        )


def test_a_folder_of_another_run_is_left_alone(finished, smoke_bank, tmp_path):
    folder = tmp_path / "mmcse" / finished.folder.name
    shutil.copytree(finished.folder, folder)
    record = json.loads((folder / "result.json").read_text()) | {"identity": "something else"}
    (folder / "result.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="holds another run"):
        train(tiny.config(smoke_bank, tmp_path))
    assert json.loads((folder / "result.json").read_text()) == record


def test_a_damaged_record_is_named(finished, smoke_bank, tmp_path):
    folder = tmp_path / "mmcse" / finished.folder.name
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json cannot be read"):
        train(tiny.config(smoke_bank, tmp_path))


def test_runs_cannot_go_where_a_file_is(smoke_bank, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match=r"Choose another run\.root"):
        train(tiny.config(smoke_bank, tmp_path / "runs"))


@pytest.mark.parametrize("debug", ["step", "overfit", "profile"])
def test_debug_configurations_run(smoke_bank, tmp_path, debug, capsys):
    config = tiny.config(smoke_bank, tmp_path, f"debug={debug}", "trainer.max_epochs=1")
    assert train(config).record["status"] == "ok"


def test_step_schedule_of_the_reference_code(smoke_bank, tmp_path):
    config = tiny.config(
        smoke_bank, tmp_path, "scheduler=step", "scheduler.step_size=1", "optimizer.lr=1e-4", "trainer.max_epochs=3"
    )
    with open(train(config).folder / "history.csv", newline="") as file:
        assert [float(row["lr"]) for row in csv.DictReader(file)] == pytest.approx([1e-4, 1e-5, 1e-6])
