"""`mmcse import`, `export` and the evaluation of what they write, with the reference weights of the authors' names."""

import json

import pytest
import torch

import golden
import tiny
from mmcse.cli import main
from mmcse.configuration import compose_config
from mmcse.data import AVVPDataModule
from mmcse.errors import UserError
from mmcse.evaluate import evaluate, read_checkpoint, rebuild
from mmcse.evaluation import decode_output, parsing_scores
from mmcse.models import CMPAE, HAN, MMCSE, VALOR
from mmcse.models.checkpoint_files import export_reference, load_network
from mmcse.models.reference import load_reference_state
from mmcse.train import train

CPU = ("trainer.accelerator=cpu",)


def score(checkpoint, *overrides):
    return evaluate(compose_config("eval", [f"checkpoint={checkpoint}", *CPU, *overrides]))


@pytest.fixture(scope="module")
def authors_file(shared, tmp_path_factory):
    file = tmp_path_factory.mktemp("authors") / "checkpoint_best.pth"
    state = golden.reference_state(shared / "golden", "mmcse_clip_clap")
    torch.save({name: tensor.float() for name, tensor in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def imported(authors_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "mmcse"
    assert main(["import", str(authors_file), "--model", "mmcse", "--out", str(folder)]) == 0
    return folder


def test_the_authors_mmcse_is_evaluated_as_if_it_were_called_directly(authors_file, imported, smoke_bank, capsys):
    network = MMCSE().eval()
    load_reference_state(network, torch.load(authors_file))
    bank = AVVPDataModule(smoke_bank).bank.split("test")
    batch = bank.gather(torch.arange(len(bank)).numpy())
    with torch.no_grad():
        decided = decode_output(network(batch.audio, batch.visual, batch.motion), gate="video/visual")
    expected = parsing_scores(*decided, batch.true_audio, batch.true_visual)
    result = score(imported, *tiny.data(smoke_bank))
    assert result["gate"] == "video/visual"
    assert {name: result["scores"][name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert any(0 < value < 100 for value in expected.values())
    assert "SIMULATED" in capsys.readouterr().out


def test_import_says_what_it_found_and_where_it_is_from(authors_file, imported, tmp_path, capsys):
    main(["import", str(authors_file), "--out", str(tmp_path / "again")])
    out = capsys.readouterr().out
    assert "MMCSE on CLAP/CLIP" in out
    assert "that only training needs" in out
    source = json.loads((imported / "network.json").read_text())["source"]
    assert source["file"] == "checkpoint_best.pth"
    assert len(source["sha256"]) == 64


def test_import_export_import_keeps_every_tensor(authors_file, imported, tmp_path):
    assert main(["export", str(imported), "--out", str(tmp_path / "again.pth")]) == 0
    theirs, ours = torch.load(authors_file), torch.load(tmp_path / "again.pth")
    unused = {name for name in theirs if "final_norm" in name}  # never used; written as zeros
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs.keys() - unused)
    assert main(["import", str(tmp_path / "again.pth"), "--out", str(tmp_path / "again")]) == 0
    first, second = (load_network(folder)[0].state_dict() for folder in (imported, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("build", "model", "gate"), [(HAN, "han", "video/video"), (VALOR, "valor", "video/video")])
def test_each_method_is_evaluated_by_its_own_protocol(build, model, gate, smoke_bank, tmp_path):
    export_reference(build(audio_dim=768, visual_dim=768, hidden_dim=16, num_layers=1), tmp_path / "file.pth")
    assert main(["import", str(tmp_path / "file.pth"), "--model", model, "--out", str(tmp_path / "network")]) == 0
    assert score(tmp_path / "network", *tiny.data(smoke_bank))["gate"] == gate


@pytest.fixture(scope="module")
def cmpae(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("cmpae")
    export_reference(CMPAE(audio_dim=768, visual_dim=768, hidden_dim=16), folder / "file.pth")
    assert main(["import", str(folder / "file.pth"), "--out", str(folder / "network")]) == 0
    return folder / "network"


def test_the_released_thresholds_of_cmpae_are_at_hand(cmpae, smoke_bank):
    usual, released = (score(cmpae, *tiny.data(smoke_bank), *chosen) for chosen in ([], ["thresholds=cmpae"]))
    assert (usual["threshold"], usual["gate_threshold"], usual["visual_thresholds"]) == (0.25, 0.45, None)
    by_class = dict(zip(released["classes"], released["visual_thresholds"], strict=True))
    assert (by_class["Speech"], by_class["Car"], by_class["Clapping"]) == (0.7, 0.4, 0.3)
    assert sum(by_class.values()) == pytest.approx(13.85)
    batch = AVVPDataModule(smoke_bank).bank.split("test").gather(torch.arange(64).numpy())
    with torch.no_grad():
        out = rebuild(*read_checkpoint(cmpae)).eval()(batch.audio, batch.visual, batch.motion)
    present, gate = out.segment_prob >= 0.25, torch.tensor(released["visual_thresholds"])
    heard = present[:, :, 0] & (out.audio_prob >= 0.45)[:, None]
    seen = present[:, :, 1] & (out.visual_prob >= gate)[:, None]
    expected = parsing_scores(heard, seen, batch.true_audio, batch.true_visual)
    found = score(cmpae, *tiny.data(smoke_bank), "thresholds=cmpae")["scores"]
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert found != usual["scores"]


def test_an_import_of_cmpae_is_told_to_read_frames(cmpae):
    with pytest.raises(UserError, match=r"data=llp_vggish_resnet_frames \(128, 2048\)"):
        score(cmpae)


def test_what_shapes_do_not_tell_can_be_said(smoke_bank, tmp_path):
    network = VALOR(hidden_dim=16, num_layers=2, num_heads=2, norm="pre").eval()
    export_reference(network, tmp_path / "file.pth")
    options = ["--model", "valor", "--num-heads", "2", "--norm", "pre"]
    assert main(["import", str(tmp_path / "file.pth"), *options, "--out", str(tmp_path / "network")]) == 0
    again = rebuild(*read_checkpoint(tmp_path / "network")).eval()
    x = [torch.randn(2, 10, width) for width in (768, 768, 512)]
    torch.testing.assert_close(again(*x).segment_logits, network(*x).segment_logits)


def test_a_trained_network_is_exported_for_the_authors_code(smoke_bank, tmp_path):
    run = train(tiny.config(smoke_bank, tmp_path, "trainer.max_epochs=1"))
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "file.pth")]) == 0
    assert main(["import", str(tmp_path / "file.pth"), "--num-heads", "2", "--out", str(tmp_path / "network")]) == 0
    result = score(tmp_path / "network", *tiny.data(smoke_bank))
    assert result["scores"] == run.record["scores"]["test"]


def test_an_imported_network_names_no_data(imported):
    with pytest.raises(UserError, match=r"names no data; its features are 768 .* data=llp_clip_clap"):
        score(imported)


def test_features_of_another_width_are_refused(tmp_path, smoke_bank):
    export_reference(HAN(hidden_dim=8), tmp_path / "file.pth")
    main(["import", str(tmp_path / "file.pth"), "--model", "han", "--out", str(tmp_path / "network")])
    with pytest.raises(UserError, match="audio_dim 128, data 768; visual_dim 2048, data 768"):
        score(tmp_path / "network", *tiny.data(smoke_bank))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "nothing.pth", "--out", "x"], "There is no file nothing.pth"),
        (["export", "nothing.ckpt", "--out", "x"], "There is no checkpoint at nothing.ckpt"),
        (["export", ".", "--out", "x"], "There is no network.json in ."),
    ],
)
def test_mistakes_are_one_paragraph_and_exit_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_another_model_is_recognised(tmp_path, capsys):
    export_reference(HAN(hidden_dim=8), tmp_path / "file.pth")
    assert main(["import", str(tmp_path / "file.pth"), "--model", "mmcse", "--out", str(tmp_path / "x")]) == 2
    assert "This looks like HAN on VGGish/ResNet-152" in capsys.readouterr().err


def test_the_probe_has_no_authors(smoke_bank, tmp_path, capsys):
    config = compose_config(
        "train",
        ["model=probe", "model.hidden_dim=8", *tiny.data(smoke_bank), *tiny.TRAINING, f"run.root={tmp_path}"],
    )
    run = train(config)
    assert main(["export", str(run.folder / "checkpoints" / "best.ckpt"), "--out", str(tmp_path / "x.pth")]) == 2
    assert "no reference checkpoint format for LinearProbe" in capsys.readouterr().err


def test_durations_are_broken_down_where_scores_are_written(smoke_bank, tmp_path, imported):
    file = tmp_path / "scores.json"
    result = score(imported, *tiny.data(smoke_bank), f"json={file}")
    written = json.loads(file.read_text())
    assert written["duration_bins"] == ["1-2", "3-5", "6-9", "10"]
    by_class = result["per_class"]["event/A"]
    assert sum(written["per_duration"]["A"]["right"]) == by_class["TP"].sum()
    assert sum(written["per_duration"]["A"]["true"]) > 0
