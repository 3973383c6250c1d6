import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from layout_files import VIDEOS, WIDTHS, write_layout, write_table
from mmcse.data import FeatureBank, layouts, npy, prepare_bank, read_annotations
from mmcse.data.annotations import AUDIO_FILE, ORIGINAL_AUDIO_FILE, VISUAL_FILE, WEAK_FILES
from mmcse.errors import MissingFileError, UserError
from mmcse.resampling import resampling_matrix
from mmcse.vocabulary import LLP_CLASSES

FIRST = VIDEOS["train"][0][:11]


def prepare(folders, name="bank", layout="valor", **kwargs):
    folder = folders.features.parent / name
    return prepare_bank(folders.features, folders.annotations, folder, layout=layout, **kwargs)


def stored(folders, stream_folder, split):
    return np.stack([np.load(folders.features / stream_folder / f"{name[:11]}.npy") for name in VIDEOS[split]])


@pytest.mark.parametrize("split", list(VIDEOS))
def test_a_valor_folder_becomes_a_bank(valor_layout, split):
    bank = prepare(valor_layout)
    assert (bank.kind, bank.num_segments, bank.dims) == ("real", 10, WIDTHS)
    assert bank.source["annotations"][WEAK_FILES[split]]["edition"] == "unknown"
    found, labels = bank.split(split), read_annotations(valor_layout.annotations, split)
    assert found.ids == labels.ids
    np.testing.assert_array_equal(found.arrays["weak"], labels.weak)
    np.testing.assert_array_equal(found.arrays["visual"], stored(valor_layout, "CLIP/features", split))
    np.testing.assert_array_equal(found.arrays["motion"], stored(valor_layout, "feats/r2plus1d_18", split))
    clap = resampling_matrix("clap_map", 64, 10).numpy() @ stored(valor_layout, "CLAP/features", split)
    assert found.arrays["audio"].dtype == np.float32
    np.testing.assert_allclose(found.arrays["audio"], clap, atol=1e-6)
    pseudo = stored(valor_layout, "CLAP/segment_pseudo_labels", split)
    np.testing.assert_array_equal(found.arrays["pseudo_audio"], pseudo)
    if split == "train":
        assert "true_audio" not in found.arrays
    else:
        np.testing.assert_array_equal(found.arrays["true_audio"], labels.true_audio)
        np.testing.assert_array_equal(found.arrays["true_visual"], labels.true_visual)


def test_an_llp_folder_becomes_a_bank(llp_layout):
    bank = prepare(llp_layout, layout="llp", dtype="float16")
    found = bank.split("test").arrays
    np.testing.assert_array_equal(found["audio"], stored(llp_layout, "feats/vggish", "test").astype(np.float16))
    frames = stored(llp_layout, "feats/res152", "test").reshape(4, 10, 8, -1).mean(axis=2)
    assert found["visual"].dtype == np.float16
    np.testing.assert_allclose(found["visual"], frames, atol=1e-3)


def test_all_tokens_are_kept_where_they_are_asked_for(llp_layout, valor_layout):
    bank = prepare(llp_layout, layout="llp", tokens="stored")
    found = bank.split("test").arrays
    np.testing.assert_array_equal(found["visual"], stored(llp_layout, "feats/res152", "test"))
    np.testing.assert_array_equal(found["audio"], stored(llp_layout, "feats/vggish", "test"))
    assert found["true_visual"].shape[1] == bank.num_segments == 10
    assert prepare(llp_layout, layout="llp", tokens="stored").digest == bank.digest
    with pytest.raises(UserError, match="tokens 'stored' then, None now"):
        prepare(llp_layout, layout="llp")
    clap = prepare(valor_layout, tokens="stored").split("val")
    np.testing.assert_array_equal(clap.arrays["audio"], stored(valor_layout, "CLAP/features", "val"))


def test_clap_features_of_segments_are_taken_as_they_are(valor_layout):
    features = {}
    for path in (valor_layout.features / "CLAP/features").iterdir():
        features[path.stem] = np.random.default_rng(1).standard_normal((10, 6))
        np.save(path, features[path.stem])
    split = prepare(valor_layout).split("val")
    np.testing.assert_allclose(split.arrays["audio"], [features[video] for video in split.ids], rtol=1e-6)


@pytest.mark.parametrize("num_segments", [5, 8])
def test_other_numbers_of_segments_and_classes(tmp_path, num_segments):
    classes = ("Dog", "Cat", "Speech", "Rain")
    folders = write_layout(tmp_path / "own", "valor", classes=classes, num_segments=num_segments)
    bank = prepare(folders, classes=classes, num_segments=num_segments)
    batch = bank.split("val").gather(np.arange(3))
    assert batch.audio.shape == (3, num_segments, WIDTHS["audio"])
    assert batch.true_visual.shape == batch.pseudo_audio.shape == (3, num_segments, 4)


def test_the_original_audio_truth_is_packed_where_it_is_there(valor_layout):
    first = VIDEOS["val"][0]
    label = read_annotations(valor_layout.annotations, "val").weak[0].argmax()
    header = ("filename", "onset", "offset", "event_labels")
    row = (first, 2, 3, LLP_CLASSES[label])
    write_table(valor_layout.annotations / ORIGINAL_AUDIO_FILE, header, [row])
    split = prepare(valor_layout).split("val")
    original = split.gather(np.arange(3), "true_audio_original").true_audio.numpy()
    assert original.sum() == original[0, 2, label] == 1
    assert split.gather(np.arange(3)).true_audio.numpy().sum() > 1


def test_pseudo_labels_may_be_absent_from_a_split(valor_layout):
    for stream in layouts.VALOR.pseudo_labels:
        for name in VIDEOS["test"]:
            (valor_layout.features / stream.folder / f"{name[:11]}.npy").unlink()
    bank = prepare(valor_layout)
    assert bank.split("test").gather(np.arange(2)).pseudo_audio is None
    assert bank.split("train").gather(np.arange(2)).pseudo_audio is not None


def test_a_finished_bank_is_opened_not_built_again(valor_layout, monkeypatch):
    bank = prepare(valor_layout)
    monkeypatch.setattr(layouts, "read_array", lambda path: pytest.fail("read again"))
    assert prepare(valor_layout).digest == bank.digest
    for change, message in [
        ({"dtype": "float16"}, "dtype 'float32' then, 'float16' now"),
        ({"kind": "simulated"}, "kind 'real' then"),
        ({"splits": ("train",)}, "splits"),
        ({"layout": "llp"}, "layout 'valor' then"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(valor_layout, **change)
    path = valor_layout.annotations / AUDIO_FILE
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UserError, match="made of something else: annotations"):
        prepare(valor_layout)


class TestMissing:
    def test_all_are_counted_by_stream(self, valor_layout):
        for folder, names in (
            ("CLAP/features", VIDEOS["train"][:4]),
            ("feats/r2plus1d_18", VIDEOS["val"][:1]),
            ("CLIP/segment_pseudo_labels", VIDEOS["train"][3:5]),
        ):
            for name in names:
                (valor_layout.features / folder / f"{name[:11]}.npy").unlink()
        with pytest.raises(MissingFileError, match="6 annotated videos lack files") as caught:
            prepare(valor_layout)
        text = str(caught.value)
        first_three = ", ".join(name[:11] for name in VIDEOS["train"][:3])
        assert f"CLAP/features lacks 4: {first_three}, ..." in text
        assert f"feats/r2plus1d_18 lacks 1: {VIDEOS['val'][0][:11]}" in text
        assert "CLIP/segment_pseudo_labels lacks 2" in text
        assert "CLIP/features" not in text
        assert "--skip-missing" in text

        bank = prepare(valor_layout, skip_missing=True)
        assert {split: entry.skipped for split, entry in bank.manifest.splits.items()} == {
            "test": 0,
            "train": 5,
            "val": 1,
        }
        assert bank.split("train").ids == tuple(name[:11] for name in VIDEOS["train"][5:])
        rows = stored(valor_layout, "CLIP/features", "train")[5:]
        np.testing.assert_array_equal(bank.split("train").arrays["visual"], rows)
        labels = read_annotations(valor_layout.annotations, "val")
        np.testing.assert_array_equal(bank.split("val").arrays["true_audio"], labels.true_audio[1:])
        with pytest.raises(UserError, match="prepared without 6 videos"):
            prepare(valor_layout)

    def test_folders(self, valor_layout):
        with pytest.raises(MissingFileError, match="not a folder in layout 'llp': it has no feats/vggish, feats/res"):
            prepare(valor_layout, layout="llp")

    def test_nothing_left(self, valor_layout):
        for name in VIDEOS["val"]:
            (valor_layout.features / "CLIP/features" / f"{name[:11]}.npy").unlink()
        with pytest.raises(MissingFileError, match="No video of split 'val'"):
            prepare(valor_layout, skip_missing=True)

    def test_annotations(self, valor_layout):
        (valor_layout.annotations / WEAK_FILES["test"]).unlink()
        with pytest.raises(MissingFileError, match=WEAK_FILES["test"]):
            prepare(valor_layout)
        assert set(prepare(valor_layout, splits=("train", "val")).splits) == {"train", "val"}


def save_objects(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


DAMAGES = {
    "truncated": ("CLIP/features", lambda path: path.write_bytes(path.read_bytes()[:-1]), "is truncated"),
    "empty": ("CLIP/features", lambda path: path.write_bytes(b""), "is truncated: the file is empty"),
    "pickled": ("CLAP/features", save_objects, "is pickled"),
    "text": ("CLAP/features", lambda path: path.write_text("404 not found"), "is unreadable"),
    "NaN": ("feats/r2plus1d_18", lambda path: np.save(path, np.full((10, 4), np.nan, np.float32)), "is not finite"),
    "inf": ("feats/r2plus1d_18", lambda path: np.save(path, np.full((10, 4), np.inf)), "is not finite"),
    "tokens": ("feats/r2plus1d_18", lambda path: np.save(path, np.ones((9, 4))), r"misshapen: found \(9, 4\)"),
    "width": ("CLIP/features", lambda path: np.save(path, np.ones((10, 7))), r"misshapen: .* expected \(10, 5\)"),
    "integers": ("CLIP/features", lambda path: np.save(path, np.ones((10, 5), int)), "wrong dtype: found int64"),
    "classes": ("CLIP/segment_pseudo_labels", lambda path: np.save(path, np.ones((10, 24))), r"expected \(10, 25\)"),
    "labels": ("CLIP/segment_pseudo_labels", lambda path: np.save(path, np.full((10, 25), 2)), "is not 0 or 1"),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("video", [FIRST, VIDEOS["test"][1][:11]])
    def test_is_an_error_that_names_the_file(self, valor_layout, damage, video):
        folder, inflict, message = DAMAGES[damage]
        inflict(valor_layout.features / folder / f"{video}.npy")
        with pytest.raises(UserError, match=message) as caught:
            prepare(valor_layout)
        assert f"{video}.npy" in str(caught.value)
        assert "mmcse data check" in str(caught.value)
        assert not (valor_layout.features.parent / "bank").exists()

    def test_mended_work_goes_on(self, valor_layout):
        expected = prepare(valor_layout, "expected")
        path = valor_layout.features / "CLIP/features" / f"{VIDEOS['test'][3][:11]}.npy"
        good = path.read_bytes()
        path.write_bytes(good[:-1])
        with pytest.raises(UserError, match="truncated"):
            prepare(valor_layout)
        path.write_bytes(good)
        assert prepare(valor_layout).digest == expected.digest

    def test_values_too_large_for_float16(self, valor_layout):
        np.save(valor_layout.features / "CLIP/features" / f"{FIRST}.npy", np.full((10, 5), 1e5, np.float32))
        with pytest.raises(UserError, match="too large for float16"):
            prepare(valor_layout, dtype="float16")

    def test_no_usable_file(self, valor_layout):
        for path in (valor_layout.features / "CLIP/features").iterdir():
            np.save(path, np.ones((12, 5)))
        with pytest.raises(UserError, match=r"expected arrays of shape \(10, C\), found \(12, 5\)"):
            prepare(valor_layout)


def test_interrupted_anywhere_it_goes_on(valor_layout, monkeypatch):
    expected = prepare(valor_layout, "expected")
    monkeypatch.setattr("mmcse.data.prepare.CHUNK", 2)
    total, reads, allowed = sum(map(len, VIDEOS.values())) * 5, [], 0
    read_array = layouts.read_array

    def until_allowed(path):
        if len(reads) >= allowed:
            raise KeyboardInterrupt
        reads.append(path)
        return read_array(path)

    monkeypatch.setattr(layouts, "read_array", until_allowed)
    attempts, bank = 0, None
    while bank is None:
        attempts, allowed = attempts + 1, len(reads) + 15
        try:
            bank = prepare(valor_layout)
        except KeyboardInterrupt:
            assert not (valor_layout.features.parent / "bank").exists()
    assert attempts > 3
    assert len(reads) < total + 2 * attempts  # what was done was not done again
    assert bank.digest == expected.digest


def test_a_full_disk_keeps_what_is_done(valor_layout, monkeypatch):
    expected = prepare(valor_layout, "expected")
    write_bytes, written = npy.write_bytes, []

    def full(file, data):
        if len(written) == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(data))
        write_bytes(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(npy, "write_bytes", full)
        with pytest.raises(UserError, match=r"No space left at .*still to be written"):
            prepare(valor_layout)
    assert prepare(valor_layout).digest == expected.digest


def test_wrong_options(valor_layout):
    with pytest.raises(UserError, match=r"Unknown feature layout 'valour'.*'valor'"):
        prepare(valor_layout, layout="valour")
    with pytest.raises(UserError, match="float32 or float16 features, not 'float64'"):
        prepare(valor_layout, dtype="float64")
    with pytest.raises(UserError, match="tokens is 'frames'; expected 'segments' or 'stored'"):
        prepare(valor_layout, tokens="frames")
    with pytest.raises(UserError, match="No splits"):
        prepare(valor_layout, splits=())


def test_llp_frames_that_do_not_divide_are_an_error(tmp_path):
    folders = write_layout(tmp_path / "own", "llp", num_segments=7)
    with pytest.raises(UserError, match="80 frames per video, which do not divide into 7 segments"):
        prepare(folders, layout="llp", num_segments=7)


def test_a_handful_of_real_videos(shared, tmp_path):
    videos = {split: read_annotations(shared / "llp", split).names[:4] for split in VIDEOS}
    folders = write_layout(tmp_path / "few", "valor", videos=videos)
    for split, names in videos.items():
        rows = [line.split("\t") for line in (shared / "llp" / WEAK_FILES[split]).read_text().splitlines()[1:5]]
        assert tuple(name for name, _ in rows) == names
        write_table(folders.annotations / WEAK_FILES[split], ("filename", "event_labels"), rows)
    for file in (AUDIO_FILE, ORIGINAL_AUDIO_FILE, VISUAL_FILE):
        (folders.annotations / file).write_text((shared / "llp" / file).read_text())
    bank = prepare(folders)
    assert bank.source["annotations"][ORIGINAL_AUDIO_FILE]["edition"] == "LLP as used by published numbers"
    truth = read_annotations(shared / "llp", "test").true_audio[:4]
    np.testing.assert_array_equal(bank.split("test").arrays["true_audio"], truth)
    np.testing.assert_array_equal(bank.split("test").arrays["true_audio_original"], truth)


CHILD = """
import sys, time
from pathlib import Path
from mmcse.data import layouts, prepare, prepare_bank
read, prepare.CHUNK = layouts.read_array, 2
def slowly(path):
    time.sleep(0.1)
    return read(path)
layouts.read_array = slowly
features, annotations, folder = map(Path, sys.argv[1:])
prepare_bank(features, annotations, folder, layout="valor", progress=False)
"""


@pytest.mark.slow
def test_killed_it_goes_on(valor_layout):
    expected, folder = prepare(valor_layout, "expected"), valor_layout.features.parent / "bank"
    command = [sys.executable, "-c", CHILD, *map(str, (*valor_layout, folder))]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    audio = folder.with_name("bank.partial") / "train" / "audio.npy"
    deadline = time.monotonic() + 60
    while not (audio.exists() and audio.stat().st_size > 500):
        assert child.poll() is None, "the child ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(MissingFileError, match="not finished"):
        FeatureBank.open(folder)
    assert prepare(valor_layout).digest == expected.digest


@pytest.mark.slow
def test_two_processes_build_once(valor_layout):
    folder = valor_layout.features.parent / "bank"
    command = [sys.executable, "-c", CHILD, *map(str, (*valor_layout, folder))]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen(command, env=env) for _ in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    assert json.loads((folder / "manifest.json").read_text())["splits"]["train"]["count"] == 7
