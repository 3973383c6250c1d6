"""A run's folder: claimed by one launch, and with a record from the first moment on."""

import lightning as L
import pytest
from lightning.pytorch.utilities import rank_zero_only

import tiny
from mmcse.errors import UserError
from mmcse.runs.folder import claimed, finished, recorded
from mmcse.runs.record import read_record
from mmcse.train import train


def test_a_folder_at_work_is_refused_to_a_second_launch(tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(UserError, match="Another process is training"):
        claimed(tmp_path / "run").__enter__()
    with claimed(tmp_path / "run"):
        pass


def test_the_record_is_there_while_the_run_is_running(tmp_path):
    record = {"identity": "x"}
    with recorded(tmp_path, record):
        assert read_record(tmp_path)["status"] == "running"
        assert finished(tmp_path, "x") is None
        record["found"] = 1
    assert finished(tmp_path, "x")["found"] == 1


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")])
def test_an_unfinished_run_says_why(tmp_path, error, status):
    with pytest.raises(error), recorded(tmp_path, {"identity": "x"}):
        raise error("because")
    record = read_record(tmp_path)
    assert record["status"] == status
    assert ("because" in record.get("traceback", "")) == (status == "failed")
    assert finished(tmp_path, "x") is None


def test_force_starts_anew_and_leaves_nothing_to_resume_from(smoke_bank, tmp_path):
    first = train(tiny.config(smoke_bank, tmp_path))
    (first.folder / "checkpoints" / "last.ckpt").write_bytes(b"an old one")
    again = train(tiny.config(smoke_bank, tmp_path, "run.force=true"))
    assert again.folder == first.folder
    assert again.record["started"] >= first.record["finished"]
    assert again.record["scores"] == first.record["scores"]


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_alone_writes_before_they_meet(smoke_bank, tmp_path, monkeypatch, rank):
    """The first may still be clearing the folder then: what another wrote or found there would be gone."""
    folder = train(tiny.config(smoke_bank, tmp_path)).folder
    found = {file for file in folder.rglob("*") if file.is_file()}

    def meeting(trainer, *args, ckpt_path, **kwargs):
        assert ckpt_path is None
        raise KeyboardInterrupt

    monkeypatch.setattr(rank_zero_only, "rank", rank)
    monkeypatch.setattr(L.Trainer, "fit", meeting)
    before = {file: file.stat().st_mtime_ns for file in found}
    with pytest.raises(KeyboardInterrupt):
        train(tiny.config(smoke_bank, tmp_path, "run.force=true"))
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    assert (after == before) == (rank == 1)
