"""What earlier versions wrote is read; what later versions write is refused by name."""

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcse import cli
from mmcse.callbacks.card import CARD, CARD_FORMAT
from mmcse.checkpoints import load_checkpoint
from mmcse.configuration import compose_config
from mmcse.data import FeatureBank, manifest, read_annotations
from mmcse.errors import UserError
from mmcse.evaluate import evaluate, read_checkpoint, rebuild
from mmcse.evaluation.predictions import score_predictions
from mmcse.models.checkpoint_files import import_checkpoint, load_network
from mmcse.runs.collect import collect, read_results
from mmcse.runs.record import RECORD_FORMAT, read_record

REPOSITORY = Path(__file__).parents[2]
VERSIONS = sorted((REPOSITORY / "tests" / "data_of_versions").glob("[0-9]*"))


@pytest.fixture(params=VERSIONS, ids=lambda folder: folder.name)
def version(request, tmp_path, monkeypatch):
    """A copy of what a version wrote, as the working directory: the paths in it are relative."""
    folder = shutil.copytree(request.param, tmp_path / "version")
    monkeypatch.chdir(folder)
    return folder


def run_of(version):
    [file] = version.rglob("result.json")
    return file.parent


def test_the_current_formats_are_among_those_kept():
    newest = VERSIONS[-1]
    card, _ = read_checkpoint(run_of(newest) / "checkpoints" / "best.ckpt")
    kept = (
        card["format"],
        read_record(run_of(newest))["format"],
        json.loads((newest / "bank" / "manifest.json").read_text())["format"],
    )
    assert kept == (CARD_FORMAT, RECORD_FORMAT, manifest.FORMAT)


def test_banks_are_read(version):
    bank = FeatureBank.open(version / "bank")
    assert bank.digest == str(np.load(version / "expected.npz")["digest"])
    assert bank.split("train").gather(np.arange(3)).pseudo_audio is not None


def test_checkpoints_and_networks_compute_what_they_did(version):
    batch = (split := FeatureBank.open(version / "bank").split("test")).gather(np.arange(len(split)))
    networks = (
        rebuild(*read_checkpoint(run_of(version) / "checkpoints" / "best.ckpt")).eval(),
        load_network(version / "network")[0],
        import_checkpoint(version / "theirs.pth", num_heads=2)[0],
    )
    for network in networks:
        logits = network(batch.audio, batch.visual, batch.motion).segment_logits.detach().numpy()
        np.testing.assert_allclose(logits, np.load(version / "expected.npz")["segment_logits"], atol=1e-5)


def test_checkpoints_are_evaluated_and_records_agree(version):
    run = run_of(version)
    checkpoint = run / "checkpoints" / "best.ckpt"
    result = evaluate(compose_config("eval", [f"checkpoint={checkpoint}", "trainer.accelerator=cpu"]))
    assert result["scores"] == pytest.approx(read_record(run)["scores"]["test"])


def test_records_are_collected_and_results_read(version):
    again = collect([run_of(version)], version / "again")
    assert again.added == 1
    [then], [now] = read_results(version / "results"), read_results(version / "again")
    assert {key: now[key] for key in then if key != "environment"} == {k: then[k] for k in then if k != "environment"}


def test_predictions_are_scored(version):
    scores = score_predictions(version / "predictions.npz", version / "layout" / "annotations", "val")
    assert scores["segment/A"] == 100
    assert read_annotations(version / "layout" / "annotations", "val").ids


@pytest.mark.parametrize("ahead", [1, 1000])
def test_later_formats_are_refused_by_name(version, tmp_path, ahead, evidence):
    run = run_of(version)
    record = json.loads((run / "result.json").read_text()) | {"format": RECORD_FORMAT + ahead}
    (run / "result.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="Update mmcse"):
        read_record(run)
    checkpoint = load_checkpoint(run / "checkpoints" / "best.ckpt")
    checkpoint[CARD]["format"] = CARD_FORMAT + ahead
    torch.save(checkpoint, tmp_path / "later.ckpt")
    with pytest.raises(UserError, match="Update mmcse"):
        read_checkpoint(tmp_path / "later.ckpt")
    bank = json.loads((version / "bank" / "manifest.json").read_text()) | {"format": manifest.FORMAT + ahead}
    (version / "bank" / "manifest.json").write_text(json.dumps(bank))
    with pytest.raises(UserError, match="another version"):
        FeatureBank.open(version / "bank")
    assert cli.main(["collect", str(run), "--out", str(tmp_path / "results")]) == 2
    evidence(inputs=4)


def test_the_minimum_versions_are_those_of_the_package():
    """constraints-minimum.txt pins every direct dependency at the lower end of its range."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "constraints-minimum.txt").read_text(), re.MULTILINE))
    needed = [line for line in importlib.metadata.requires("mmcse") or () if "extra ==" not in line]
    for requirement in needed:
        name, lowest = re.match(r"([\w.-]+).*?>=([\d.]+)", requirement).groups()
        assert pins[name].startswith(lowest), requirement
    assert len(pins) == len(needed)
