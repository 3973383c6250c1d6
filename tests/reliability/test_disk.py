"""Full disks, folders that may not be written, network drives that go away: a clear line, and nothing lost."""

import errno
import os
import shutil

import numpy as np
import pytest
from killable import narrow_bank, outcome, words

import mmcse.checkpoints
import mmcse.data.npy
import tiny
from layout_files import write_layout
from mmcse import cli
from mmcse.data import FeatureBank, prepare_bank
from mmcse.errors import UserError
from mmcse.evaluation.predictions import save_predictions
from mmcse.files import atomic_write
from mmcse.runs.record import read_record
from mmcse.train import train

pytestmark = pytest.mark.slow

FAULTS = {
    errno.ENOSPC: "No space left",
    errno.EDQUOT: "No space left",
    errno.EROFS: "No permission",
    errno.EACCES: "No permission",
    errno.EIO: "The disk or network drive fails",
    errno.ESTALE: "The disk or network drive fails",
}
"""What the system says, and how a message of ours begins."""
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=[errno.errorcode[number] for number in FAULTS])


def failing(function, fault, at):
    """The function, failing from its n-th call on, counted from 0."""
    calls = iter(range(1_000_000))

    def fails(*args, **kwargs):
        if next(calls) >= at:
            raise OSError(fault, os.strerror(fault))
        return function(*args, **kwargs)

    return fails


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return narrow_bank(tmp_path_factory.mktemp("narrow") / "bank")


@pytest.fixture(scope="module")
def undisturbed(bank, tmp_path_factory):
    return outcome(train(config(bank, tmp_path_factory.mktemp("undisturbed"))).folder)


def config(bank, root):
    return tiny.config(bank, root, "data.batch_size=8", "threads=1")


@every_fault
def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch, evidence, fault):
    for name in ("fsync", "replace"):
        file = tmp_path / name
        file.write_bytes(b"old")
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing(getattr(os, name), fault, 0))
            with pytest.raises(UserError, match=FAULTS[fault]), atomic_write(file) as handle:
                handle.write(b"new")
        assert file.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"fsync", "replace"}
    evidence(faults=2)


@every_fault
def test_preparing_goes_on_once_the_disk_is_back(tmp_path, monkeypatch, evidence, fault):
    folders = write_layout(tmp_path / "layout")
    whole = prepare_bank(*folders, tmp_path / "whole", layout="valor", progress=False)
    points = (0, 7, 14, 20)
    for at in points:
        with monkeypatch.context() as patch:
            patch.setattr(mmcse.data.npy, "write_bytes", failing(mmcse.data.npy.write_bytes, fault, at))
            with pytest.raises(UserError, match=FAULTS[fault]):
                prepare_bank(*folders, tmp_path / str(at), layout="valor", progress=False)
        assert not (tmp_path / str(at)).exists()
        assert prepare_bank(*folders, tmp_path / str(at), layout="valor", progress=False).digest == whole.digest
    evidence(faults=len(points), checked=len(points))


@pytest.mark.slow
@every_fault
def test_training_goes_on_once_the_disk_is_back(bank, undisturbed, tmp_path, monkeypatch, capsys, evidence, fault):
    """From its n-th write on, every write of a run fails, that of its record too."""
    points = (2, 4, 6)
    for at in points:
        root = tmp_path / str(at)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(os.fsync, fault, 2 * at))  # a file, then its folder
            with pytest.raises(UserError, match=FAULTS[fault]):
                train(config(bank, root))
        [folder] = (file.parent for file in root.rglob("result.json"))
        assert read_record(folder)["status"] == "running"
        train(config(bank, root))
        assert outcome(folder) == undisturbed
    evidence(faults=len(points), checked=len(points))


@every_fault
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, evidence, fault):
    files, path = mmcse.checkpoints.CheckpointFiles(), tmp_path / "last.ckpt"
    files.save_checkpoint({"epoch": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync, fault, 0))
        with pytest.raises(UserError, match=FAULTS[fault]):
            files.save_checkpoint({"epoch": 2}, path)
    assert files.load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    evidence(faults=1, checked=1)


def test_features_that_go_away_stop_training_with_a_line(bank, undisturbed, tmp_path, capsys, monkeypatch, evidence):
    own = shutil.copytree(bank, tmp_path / "bank")
    read = os.preadv
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing(read, errno.ESTALE, 30))
        assert cli.main(words(own, tmp_path / "runs", "trainer.max_epochs=2")) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"mmcse: {own}")
    assert os.strerror(errno.ESTALE) in line
    [folder] = (file.parent for file in tmp_path.rglob("result.json"))
    assert read_record(folder)["status"] == "failed"
    assert cli.main(words(own, tmp_path / "runs", "trainer.max_epochs=2")) == 0
    evidence(faults=1, checked=1)


def test_features_that_shrink_are_an_error_not_the_end_of_the_process(bank, tmp_path, evidence):
    """A memory map that is touched behind the end of its file kills the process: SIGBUS."""
    split = FeatureBank.open(shutil.copytree(bank, tmp_path / "bank")).split("train")
    file = tmp_path / "bank" / "train" / "audio.npy"
    with file.open("r+b") as stream:
        stream.truncate(200)
    with pytest.raises(UserError, match=r"audio\.npy is truncated"):
        split.gather(np.array([20]))
    evidence(faults=1)


@pytest.mark.slow
@every_fault
def test_collecting_loses_nothing_and_goes_on_once_the_disk_is_back(
    bank, undisturbed, tmp_path, monkeypatch, capsys, evidence, fault
):
    command = ["collect", str(tmp_path / "runs"), "--out", str(tmp_path / "results")]
    train(config(bank, tmp_path / "runs"))
    assert cli.main(command) == 0
    [results] = (tmp_path / "results").glob("*.jsonl")
    before = results.read_bytes()
    assert cli.main(words(bank, tmp_path / "runs", "seed=1", "trainer.max_epochs=1")) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace, fault, 0))
        assert cli.main(command) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert FAULTS[fault] in line
    assert results.read_bytes() == before
    assert cli.main(command) == 0
    assert results.read_bytes().startswith(before)
    assert len(results.read_bytes().splitlines()) == 2
    evidence(faults=1, checked=1)


def test_results_that_cannot_be_written_are_a_line(tmp_path, monkeypatch, evidence):
    arrays = np.zeros((2, 3, 4), bool)
    monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.ENOSPC, 0))
    with pytest.raises(UserError, match="No space left"):
        save_predictions(tmp_path / "a.npz", ["a", "b"], arrays, arrays)
    assert not list(tmp_path.iterdir())
    evidence(faults=1)


def test_a_folder_that_cannot_be_locked_is_a_line(bank, tmp_path, monkeypatch, evidence):
    """Network drives may know no locks."""
    monkeypatch.setattr("filelock.FileLock.acquire", failing(None, errno.EROFS, 0))
    with pytest.raises(UserError, match="No permission"):
        train(config(bank, tmp_path))
    evidence(faults=1)
