import errno
import json
import pickle
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcse.data import BankWriter, FeatureBank, npy
from mmcse.data.bank import lock_bank
from mmcse.errors import MissingFileError, UserError

T, K = 5, 3
CLASSES = ("Dog", "Cat", "Speech")
COUNTS = {"train": 7, "val": 4}
WIDTHS = {"audio": 6, "visual": 5, "motion": 4}


def arrays_of(split, dtype="float32"):
    rng = np.random.default_rng(len(split))
    N = COUNTS[split]
    arrays = {"ids": np.array([f"{split}{n:06d}" for n in range(N)]), "weak": rng.random((N, K)) < 0.5}
    arrays |= {name: rng.standard_normal((N, T, width)).astype(dtype) for name, width in WIDTHS.items()}
    labels = ["pseudo_audio", "pseudo_visual"] if split == "train" else ["true_audio", "true_visual"]
    return arrays | {name: rng.random((N, T, K)) < 0.5 for name in labels}


def writer_of(folder, **source):
    return BankWriter(folder, kind="fixture", source={"made": "by a test", **source}, classes=CLASSES, num_segments=T)


def build(folder, dtype="float32", **source):
    writer = writer_of(folder, **source)
    for split in COUNTS:
        for name, array in arrays_of(split, dtype).items():
            writer.put(split, name, array)
    return writer.finish({"train": 2})


@pytest.fixture
def bank(tmp_path):
    return build(tmp_path / "bank")


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_bank_gives_back_what_was_put_in(tmp_path, in_memory, dtype):
    build(tmp_path / "bank", dtype)
    bank = FeatureBank.open(tmp_path / "bank", in_memory=in_memory)
    assert (bank.kind, bank.classes, bank.num_segments) == ("fixture", CLASSES, T)
    assert bank.dims == WIDTHS
    assert set(bank.splits) == set(COUNTS)
    assert bank.manifest.splits["train"].skipped == 2
    for name in bank.splits:
        split, expected = bank.split(name), arrays_of(name, dtype)
        assert split.ids == tuple(expected.pop("ids"))
        assert set(split.arrays) == set(expected)
        for key, array in expected.items():
            np.testing.assert_array_equal(split.arrays[key], array)
            assert isinstance(split.arrays[key], np.memmap) != in_memory
            with pytest.raises(ValueError, match="read-only"):
                split.arrays[key][0] = 0


@given(rows=st.lists(st.integers(0, 3), max_size=9), in_memory=st.booleans())
def test_gather_gives_the_rows_in_their_order(tmp_path_factory, rows, in_memory):
    folder = tmp_path_factory.getbasetemp() / "gather"
    bank = FeatureBank.open(folder, in_memory=in_memory) if folder.exists() else build(folder, "float16")
    batch, expected = bank.split("val").gather(np.array(rows, dtype=int)), arrays_of("val", "float16")
    assert batch.ids == tuple(expected["ids"][rows])
    for name in (*WIDTHS, "weak", "true_audio", "true_visual"):
        found = getattr(batch, name)
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), expected[name][rows].astype(np.float32))
    assert batch.pseudo_audio is None


def test_gather_takes_the_truth_that_is_asked_for(tmp_path):
    writer = writer_of(tmp_path / "bank")
    arrays = arrays_of("val")
    for name, array in {**arrays, "true_audio_original": ~arrays["true_audio"]}.items():
        writer.put("val", name, array)
    split = writer.finish().split("val")
    rows = np.arange(4)
    corrected, original = split.gather(rows), split.gather(rows, "true_audio_original")
    assert torch.equal(corrected.true_audio, 1 - original.true_audio)
    with pytest.raises(UserError, match="has no 'true_audio_mine'"):
        split.gather(rows, "true_audio_mine")


def test_training_videos_have_no_truth(bank):
    batch = bank.split("train").gather(np.array([1]))
    assert batch.true_audio is None
    assert batch.pseudo_audio.shape == (1, T, K)
    with pytest.raises(UserError, match="no split 'test'; it has: train, val"):
        bank.split("test")


def test_banks_travel_to_worker_processes_as_paths(bank):
    assert len(pickle.dumps(bank)) < 500
    assert len(pickle.dumps(bank.split("val"))) < 500
    again = pickle.loads(pickle.dumps(bank))
    assert again.digest == bank.digest
    np.testing.assert_array_equal(again.split("val").arrays["audio"], bank.split("val").arrays["audio"])


def test_the_digest_tells_contents_not_places(tmp_path, bank):
    same = build(tmp_path / "elsewhere", folders={"features": "/some/where"})
    assert same.digest == build(tmp_path / "third", folders={"features": "/else/where"}).digest
    assert build(tmp_path / "fourth", "float16").digest != bank.digest
    assert build(tmp_path / "fifth", world=1).digest != bank.digest
    assert json.loads((bank.folder / "manifest.json").read_text())["format"] == 1


def test_an_unfinished_bank_is_not_one(tmp_path):
    writer = writer_of(tmp_path / "bank")
    writer.put("val", "ids", arrays_of("val")["ids"])
    with pytest.raises(MissingFileError, match="not finished"):
        FeatureBank.open(tmp_path / "bank")
    with pytest.raises(MissingFileError, match="no feature bank"):
        FeatureBank.open(tmp_path / "other")


def test_an_interrupted_writer_is_continued_by_the_same_and_discarded_by_another(tmp_path):
    def rows_done(**source):
        with writer_of(tmp_path / "bank", **source).appender("train", "audio", (7, T, 6), "float32") as array:
            return array.rows_done, array.append(arrays_of("train")["audio"][array.rows_done : 3])

    assert rows_done()[0] == 0
    assert rows_done()[0] == 3
    assert rows_done(world=2)[0] == 0
    assert build(tmp_path / "bank", world=2).split("train").ids[0] == "train000000"
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_a_bank_overwrites_nothing(tmp_path, bank):
    with pytest.raises(UserError, match="already holds something"):
        writer_of(bank.folder)
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "thesis.txt").touch()
    with pytest.raises(UserError, match="was not left by mmcse"):
        writer_of(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write"):
        writer_of(tmp_path / "file" / "bank")


def test_an_incomplete_bank_is_not_finished(tmp_path):
    writer = writer_of(tmp_path / "bank")
    for name, array in arrays_of("val").items():
        writer.put("val", name, array)
    with writer.appender("val", "motion", (4, T, 4), "float16") as array:
        array.append(np.zeros((3, T, 4)))
    with pytest.raises(UserError, match="truncated"):
        writer.finish()
    assert not (tmp_path / "bank").exists()


def test_a_full_disk(tmp_path, monkeypatch):
    writer = writer_of(tmp_path / "bank")
    usage = namedtuple("usage", "total used free")(10**9, 0, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        writer.require_space(1000)
        with pytest.raises(UserError, match="needs 2 GB of disk space, but only 1 kB"):
            writer.require_space(2 * 10**9)

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(npy, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        writer.put("val", "audio", arrays_of("val")["audio"])


def damage_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format 2, expected 1"),
        (lambda m: m.update(kind="odd"), "kind 'odd'"),
        (lambda m: m.pop("classes"), "classes"),
        (lambda m: m.update(splits=[]), "damaged"),
        (lambda m: m.update(splits={}), "no splits"),
        (lambda m: m["splits"]["val"]["arrays"].pop("weak"), "does not list weak"),
        (lambda m: m["splits"]["val"].update(count=5), r"ask for \(5, "),
        (lambda m: m.update(num_segments=6), r"ask for \(7, 6, "),
        (lambda m: m.update(classes=["Dog"]), r"ask for \(7, 1\)|ask for \(7, 5, 1\)"),
        (lambda m: m["splits"]["val"]["arrays"]["audio"].update(dtype="<f2"), "says float16"),
    ],
)
def test_a_manifest_that_disagrees_is_an_error(bank, change, message):
    damage_manifest(bank.folder, change)
    with pytest.raises(UserError, match=message):
        FeatureBank.open(bank.folder)


def test_a_manifest_of_rubbish_is_an_error(bank):
    (bank.folder / "manifest.json").write_bytes(b"\x80\xff{")
    with pytest.raises(UserError, match="damaged"):
        FeatureBank.open(bank.folder)


def test_a_truncated_or_lost_array_is_an_error(bank):
    path = bank.folder / "val" / "audio.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"audio\.npy is truncated"):
        FeatureBank.open(bank.folder)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"audio\.npy is gone"):
        FeatureBank.open(bank.folder)


def test_splits_of_different_widths_are_an_error(tmp_path):
    writer = writer_of(tmp_path / "bank")
    for split in COUNTS:
        for name, array in arrays_of(split).items():
            writer.put(split, name, array[..., :2] if (split, name) == ("val", "audio") else array)
    with pytest.raises(UserError, match="the same widths"):
        writer.finish()


def test_a_lock_is_released_and_needs_a_writable_place(tmp_path):
    for _ in range(2):
        with lock_bank(tmp_path / "new" / "bank"):
            assert (tmp_path / "new").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write"), lock_bank(tmp_path / "file" / "bank"):
        pass
