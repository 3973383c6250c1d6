"""From LLP's own files to scores, as a user goes; and every kind of damage on the way, met by the right words."""

import json
import shutil

import numpy as np
import pytest
import torch

import tiny
from layout_files import VIDEOS, WEAK_FILES, write_layout, write_table
from mmcse import cli
from mmcse.data import FeatureBank, read_annotations
from mmcse.data.annotations import AUDIO_FILE, VISUAL_FILE
from mmcse.evaluate import read_checkpoint, rebuild
from mmcse.models import CMPAE
from mmcse.models.checkpoint_files import export_reference
from mmcse.runs.record import read_record

pytestmark = pytest.mark.slow

CONFIGURATIONS = {"valor": "llp_clip_clap", "llp": "llp_vggish_resnet"}
TINY = (*tiny.NETWORK, *tiny.TRAINING)
FIRST, LAST = VIDEOS["train"][0][:11], VIDEOS["test"][-1][:11]


def mmcse(*words):
    return cli.main([str(word) for word in words])


def prepare(folders, bank, layout, *options):
    return mmcse("data", "prepare", folders.features, "--layout", layout, "--annotations", folders.annotations,
                 "--out", bank, "--kind", "fixture", *options)  # fmt: skip


def check(folders, layout):
    return mmcse("data", "check", folders.features, "--layout", layout, "--annotations", folders.annotations)


def train_from_layout(folders, bank, root, layout, *overrides):
    return mmcse("train", f"data={CONFIGURATIONS[layout]}", f"data.bank.features={folders.features}",
                 f"data.bank.annotations={folders.annotations}", f"data.bank.folder={bank}", "data.bank.kind=fixture",
                 *TINY, f"run.root={root}", *overrides)  # fmt: skip


def real_videos(shared, count=4):
    return {split: read_annotations(shared / "llp", split).names[:count] for split in VIDEOS}


def copy_real_rows(source, folders, count=4):
    """The first rows of the real weak-label files, and the dense files as they are."""
    for file in WEAK_FILES.values():
        rows = [line.split("\t") for line in (source / file).read_text().splitlines()[1 : count + 1]]
        write_table(folders.annotations / file, ("filename", "event_labels"), rows)
    for file in (AUDIO_FILE, VISUAL_FILE):
        shutil.copyfile(source / file, folders.annotations / file)


@pytest.fixture(params=["valor", "llp"])
def layout(request):
    return request.param


@pytest.fixture
def folders(tmp_path, layout):
    return write_layout(tmp_path / "files", layout)


def the_run(root):
    [file] = root.rglob("result.json")
    return file.parent, read_record(file.parent)


def test_real_annotations_with_random_features_all_the_way(shared, tmp_path, layout, capsys):
    """Check, prepare, train, evaluate, score."""
    folders = write_layout(tmp_path / "files", layout, videos=real_videos(shared))
    copy_real_rows(shared / "llp", folders)
    bank, root, predictions = tmp_path / "bank", tmp_path / "runs", tmp_path / "test.npz"

    assert check(folders, layout) == 0
    assert "60 files checked, no problem" in capsys.readouterr().out
    assert prepare(folders, bank, layout) == 0
    assert "4 test, 4 train, 4 val videos" in capsys.readouterr().out
    assert mmcse("data", "check", bank) == 0
    assert "no problem" in capsys.readouterr().out

    assert mmcse("train", *tiny.data(bank), *TINY, f"run.root={root}", "evaluation.threshold=0.4") == 0
    table = capsys.readouterr().out
    assert "FIXTURE" in table
    folder, record = the_run(root)
    assert record["data"]["kind"] == "fixture"

    json_file = tmp_path / "scores.json"
    assert mmcse("eval", f"checkpoint={folder / 'checkpoints' / 'best.ckpt'}", f"predictions={predictions}",
                 f"json={json_file}", "trainer.accelerator=cpu") == 0  # fmt: skip
    assert "FIXTURE" in capsys.readouterr().out
    scores = json.loads(json_file.read_text())["scores"]
    assert scores == record["scores"]["test"]

    scored = tmp_path / "scored.json"
    assert mmcse("score", predictions, "--annotations", folders.annotations, "--json", scored) == 0
    assert f"Avg {scores['Avg']:.2f}" in capsys.readouterr().out
    written = json.loads(scored.read_text())
    assert written == pytest.approx({name: scores[name] for name in written}, abs=1e-9)


def test_training_on_a_folder_prepares_it_once(folders, layout, tmp_path, capsys, monkeypatch):
    bank, root = tmp_path / "bank", tmp_path / "runs"
    assert train_from_layout(folders, bank, root, layout) == 0
    assert "FIXTURE" in capsys.readouterr().out
    _, record = the_run(root)
    assert record["status"] == "ok"
    digest, before = FeatureBank.open(bank).digest, (bank / "manifest.json").stat().st_mtime_ns
    assert record["data"]["digest"] == digest

    shutil.rmtree(folders.features)  # nothing of it is read again
    assert train_from_layout(folders, bank, root, layout, "seed=1") == 0
    assert (bank / "manifest.json").stat().st_mtime_ns == before

    assert mmcse("train", *tiny.data(bank), *TINY, f"run.root={tmp_path / 'other'}") == 0
    assert the_run(tmp_path / "other")[1]["scores"] == record["scores"]


def test_cmpae_reads_every_frame(tmp_path, capsys):
    """Its activation comes before the frames are averaged, so a bank of averages gives it something else."""
    folders, layout = write_layout(tmp_path / "files", "llp"), ("data=llp_vggish_resnet_frames", "model=cmpae")
    given = (f"data.bank.features={folders.features}", f"data.bank.annotations={folders.annotations}")
    given += (f"data.bank.folder={tmp_path / 'bank'}", "data.bank.kind=fixture", f"run.root={tmp_path / 'runs'}")
    assert mmcse("train", *layout, *given, *tiny.TRAINING, *tiny.method(*layout, *given)) == 0
    checkpoint = tmp_path / "runs" / "cmpae"
    [checkpoint] = checkpoint.glob("*-seed*/checkpoints/best.ckpt")
    network = rebuild(*read_checkpoint(checkpoint)).eval()
    videos = FeatureBank.open(tmp_path / "bank").split("test")
    batch = videos.gather(np.arange(len(videos)))
    assert batch.visual.shape[1] == 80
    averages = batch.visual.unflatten(1, (10, 8)).mean(dim=2)
    with torch.no_grad():
        frames, averaged = (network(batch.audio, x, batch.motion).segment_prob for x in (batch.visual, averages))
    assert not torch.allclose(frames, averaged, atol=1e-4)
    assert mmcse("data", "check", tmp_path / "bank") == 0
    assert mmcse("eval", f"checkpoint={checkpoint}", "trainer.accelerator=cpu") == 0


def test_cmpae_refuses_averages_of_frames(tmp_path, capsys):
    folders, layout = write_layout(tmp_path / "files", "llp"), ("data=llp_vggish_resnet", "model=cmpae")
    given = (f"data.bank.features={folders.features}", f"data.bank.annotations={folders.annotations}")
    given += (f"data.bank.folder={tmp_path / 'bank'}", "data.bank.kind=fixture", f"run.root={tmp_path / 'runs'}")
    assert mmcse("train", *layout, *given, *tiny.TRAINING, *tiny.method(*layout, *given)) == 2
    assert "holds averages. Use data=llp_vggish_resnet_frames" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()  # nor its first stage
    export_reference(CMPAE(audio_dim=6, visual_dim=5, motion_dim=4, hidden_dim=8), tmp_path / "theirs.pth")
    assert mmcse("import", tmp_path / "theirs.pth", "--out", tmp_path / "network") == 0
    score = ("eval", f"checkpoint={tmp_path / 'network'}", *tiny.data(tmp_path / "bank"), "trainer.accelerator=cpu")
    assert mmcse(*score) == 2
    assert "CMPAE activates frames before it averages them" in capsys.readouterr().err


def test_missing_videos_can_be_left_out(tmp_path, capsys):
    folders = write_layout(tmp_path / "files", "valor")
    (folders.features / "CLIP/features" / f"{FIRST}.npy").unlink()
    assert prepare(folders, tmp_path / "bank", "valor", "--skip-missing") == 0
    assert "6 train" in (said := capsys.readouterr().out)
    assert "1 left out for missing files" in said
    assert train_from_layout(folders, tmp_path / "bank", tmp_path / "runs", "valor", "data.bank.skip_missing=true") == 0
    assert train_from_layout(folders, tmp_path / "bank", tmp_path / "runs", "valor", "seed=3") == 2
    assert "prepared without 1 videos whose files were missing" in capsys.readouterr().err


def features(stream, video=LAST):
    """Damage to the file of a video in a stream's folder."""

    def at(damage):
        return lambda folders: damage(folders.features / stream / f"{video}.npy")

    return at


def annotation(name, change):
    def damage(folders):
        path = folders.annotations / name
        path.write_text(change(path.read_text()))

    return damage


def save(array):
    return lambda path: np.save(path, array, allow_pickle=True)


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def unpickled(path):
    path.write_bytes(b"\x80\x04\x95" + bytes(40))


CLIP, CLAP, MOTION, LABELS = "CLIP/features", "CLAP/features", "feats/r2plus1d_18", "CLIP/segment_pseudo_labels"
OF_FEATURES = {
    "missing file": (features(CLIP)(lambda path: path.unlink()), "missing", "1 annotated videos lack files"),
    "truncated": (features(CLIP)(cut), "truncated", "is truncated"),
    "empty": (features(MOTION)(lambda path: path.write_bytes(b"")), "truncated", "is truncated: the file is empty"),
    "objects": (features(CLAP)(save(np.array([{}], dtype=object))), "pickled", "is pickled"),
    "a bare pickle": (features(CLAP)(unpickled), "pickled", "is pickled"),
    "a web page": (features(CLAP)(lambda path: path.write_text("<html>")), "unreadable", "is unreadable"),
    "NaN": (features(MOTION)(save(np.full((10, 4), np.nan))), "not finite", "is not finite"),
    "another T": (features(CLIP)(save(np.ones((9, 5)))), "misshapen", "found (9, 5), expected (10, 5)"),
    "other tokens": (features(CLAP)(save(np.ones((63, 6)))), "misshapen", "found (63, 6), expected (64, 6)"),
    "another width": (features(CLIP)(save(np.ones((10, 6)))), "misshapen", "found (10, 6), expected (10, 5)"),
    "another K": (features(LABELS)(save(np.ones((10, 24)))), "misshapen", "found (10, 24), expected (10, 25)"),
    "T of labels": (features(LABELS)(save(np.ones((11, 25)))), "misshapen", "found (11, 25), expected (10, 25)"),
    "another dtype": (features(CLIP)(save(np.ones((10, 5), int))), "of a wrong dtype", "found int64"),
    "no labels": (features(LABELS)(save(np.full((10, 25), 0.5))), "not 0 or 1", "is not 0 or 1"),
}
OF_ANNOTATIONS = {
    "unknown class": (
        annotation("AVVP_train.csv", lambda text: text.rstrip("\n") + ",Speach\n"),
        "AVVP_train.csv, line 8: unknown class 'Speach'. Did you mean 'Speech'?",
    ),
    "unknown class in the dense truth": (
        annotation("AVVP_eval_audio.csv", lambda text: text.rstrip("\n") + "s\n"),
        "AVVP_eval_audio.csv, line 8: unknown class",
    ),
    "empty": (annotation("AVVP_val_pd.csv", lambda text: ""), "AVVP_val_pd.csv is empty: expected 2 columns"),
    "header alone": (annotation("AVVP_test_pd.csv", lambda text: text.splitlines()[0]), "AVVP_test_pd.csv is empty"),
    "commas": (
        annotation("AVVP_train.csv", lambda text: text.replace("\t", ",")),
        "AVVP_train.csv, line 1: found 1 column(s), expected 2 columns separated by tabs: filename, event_labels. "
        "It looks separated by commas.",
    ),
    "offset beyond the video": (
        annotation("AVVP_eval_visual.csv", lambda text: text.rstrip("\n").rpartition("\t")[0][:-1] + "12\tSpeech\n"),
        "AVVP_eval_visual.csv, line 8: offset is",
    ),
    "missing": (lambda folders: (folders.annotations / "AVVP_test_pd.csv").unlink(), "no annotation file AVVP_test_pd"),
}


@pytest.mark.parametrize("kind", OF_FEATURES)
def test_damaged_features_are_named_by_check_prepare_and_train(kind, tmp_path, capsys):
    damage, found, said = OF_FEATURES[kind]
    folders, bank = write_layout(tmp_path / "files", "valor"), tmp_path / "bank"
    damage(folders)

    assert check(folders, "valor") == 1
    report = capsys.readouterr().out
    assert "1 problem(s)" in report
    assert f"{found}: {LAST}" in report

    for command in (
        lambda: prepare(folders, bank, "valor"),
        lambda: train_from_layout(folders, bank, tmp_path / "runs", "valor"),
    ):
        assert command() == 2
        shown = capsys.readouterr()
        assert_one_paragraph(shown.err)
        assert said in shown.err
        assert LAST in shown.err
        assert shown.out == ""
        assert not bank.exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", OF_ANNOTATIONS)
def test_damaged_annotations_are_named_by_check_prepare_and_train(kind, tmp_path, capsys):
    damage, said = OF_ANNOTATIONS[kind]
    folders, bank = write_layout(tmp_path / "files", "valor"), tmp_path / "bank"
    damage(folders)
    for command in (
        lambda: check(folders, "valor"),
        lambda: prepare(folders, bank, "valor"),
        lambda: train_from_layout(folders, bank, tmp_path / "runs", "valor"),
    ):
        assert command() == 2
        shown = capsys.readouterr()
        assert_one_paragraph(shown.err)
        assert said in shown.err
        assert shown.out == ""
        assert not bank.exists()


def test_an_extra_file_is_a_problem_for_check_alone(tmp_path, capsys):
    folders = write_layout(tmp_path / "files", "valor")
    shutil.copyfile(folders.features / CLIP / f"{FIRST}.npy", folders.features / CLIP / "somebodyels.npy")
    assert check(folders, "valor") == 1
    assert "visual: extra: somebodyels" in capsys.readouterr().out
    assert prepare(folders, tmp_path / "bank", "valor") == 0
    assert mmcse("data", "check", tmp_path / "bank") == 0


def test_every_finding_can_be_listed(tmp_path, capsys):
    folders = write_layout(tmp_path / "files", "valor")
    for name in VIDEOS["train"]:
        (folders.features / CLAP / f"{name[:11]}.npy").unlink()
    listed = tmp_path / "findings.txt"
    assert mmcse("data", "check", folders.features, "--layout", "valor", "--annotations", folders.annotations,
                 "--list", listed) == 1  # fmt: skip
    assert "audio: 7 missing: " in capsys.readouterr().out
    assert sum(line.startswith("audio: missing: ") for line in listed.read_text().splitlines()) == 7


@pytest.mark.parametrize("layout", ["valor"])
def test_the_wrong_layout_is_named(folders, tmp_path, capsys):
    assert train_from_layout(folders, tmp_path / "bank", tmp_path / "runs", "llp") == 2
    assert "is not a folder in layout 'llp': it has no feats/vggish" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["valor"])
def test_a_damaged_bank_is_named_before_training(folders, tmp_path, capsys):
    bank = tmp_path / "bank"
    assert prepare(folders, bank, "valor") == 0
    cut(bank / "train" / "audio.npy")
    capsys.readouterr()
    assert mmcse("data", "check", bank) == 1
    assert "truncated" in capsys.readouterr().out
    assert mmcse("train", *tiny.data(bank), *TINY, f"run.root={tmp_path / 'runs'}") == 2
    said = capsys.readouterr().err
    assert_one_paragraph(said)
    assert "audio.npy is truncated" in said


def assert_one_paragraph(text):
    assert text.startswith("mmcse: ")
    assert "\n\n" not in text.strip()
    assert "Traceback" not in text
