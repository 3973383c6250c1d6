import json

import numpy as np
import pytest

from layout_files import VIDEOS
from mmcse.data import check_bank, check_layout, layouts, prepare_bank
from mmcse.data.annotations import WEAK_FILES
from mmcse.errors import MissingFileError, UserError

IDS = [name[:11] for name in VIDEOS["train"]]


def check(folders, layout="valor", **kwargs):
    return check_layout(*folders, layout, **kwargs)


def kinds(report):
    return {finding.kind for finding in report.remarks}


@pytest.fixture
def bank(valor_layout, tmp_path):
    return prepare_bank(*valor_layout, tmp_path / "bank", layout="valor")


@pytest.mark.parametrize("layout", ["valor", "llp"])
def test_a_good_folder_is_fine(layout, request):
    folders = request.getfixturevalue(f"{layout}_layout")
    report = check(folders, layout)
    assert report.ok
    assert report.num_files == 5 * 14
    assert report.lines()[0] == f"{folders.features}: 70 files checked, no problem"
    assert kinds(report) == {"unusual width"}  # the small fixtures are narrower than CLAP and the like
    assert len(report.remarks) == 3


def test_every_kind_of_damage_is_listed_at_once(valor_layout):
    def path(folder, number):
        return valor_layout.features / folder / f"{IDS[number]}.npy"

    path("CLAP/features", 0).unlink()
    path("CLAP/features", 4).unlink()
    path("CLAP/features", 1).write_bytes(path("CLAP/features", 1).read_bytes()[:-1])
    np.save(path("CLAP/features", 2), np.array([None]), allow_pickle=True)
    np.save(path("CLIP/features", 0), np.ones((9, 5), np.float32))
    np.save(path("CLIP/features", 1), np.full((10, 5), np.nan, np.float32))
    np.save(path("CLIP/features", 2), np.ones((10, 5), bool))
    path("CLIP/features", 3).write_text("<html>")
    np.save(valor_layout.features / "feats/r2plus1d_18/somebodyels.npy", np.ones((10, 4), np.float32))
    np.save(path("CLIP/segment_pseudo_labels", 0), np.full((10, 25), 0.5))
    np.save(path("CLAP/segment_pseudo_labels", 3), np.ones((10, 25), int))

    report = check(valor_layout)
    assert not report.ok
    assert {(p.stream, p.kind, p.item) for p in report.problems} == {
        ("audio", "missing", IDS[0]),
        ("audio", "missing", IDS[4]),
        ("audio", "truncated", IDS[1]),
        ("audio", "pickled", IDS[2]),
        ("visual", "misshapen", IDS[0]),
        ("visual", "not finite", IDS[1]),
        ("visual", "of a wrong dtype", IDS[2]),
        ("visual", "unreadable", IDS[3]),
        ("motion", "extra", "somebodyels"),
        ("pseudo_visual", "not 0 or 1", IDS[0]),
    }
    assert report.counts["audio", "missing"] == 2
    assert [r.item for r in report.remarks if r.kind == "beyond the weak label"] == [IDS[3]]
    assert f"audio: 2 missing: {IDS[0]}, {IDS[4]}" in report.lines()
    assert f"audio: 2 missing: {IDS[0]}, ..." in report.lines(names=1)
    assert f"audio: missing: {IDS[4]}" in report.lines(names=None)
    assert f"visual: misshapen: {IDS[0]} (found (9, 5), expected (10, 5))" in report.lines()


def test_files_of_splits_that_were_not_asked_for_are_not_extra(valor_layout):
    assert check(valor_layout, splits=("train",)).ok
    (valor_layout.annotations / WEAK_FILES["test"]).unlink()
    report = check(valor_layout, splits=("train",))
    assert {problem.kind for problem in report.problems} == {"extra"}
    assert len(report.problems) == 5 * len(VIDEOS["test"])


def test_missing_folders(valor_layout):
    for folder in ("CLIP/features", "CLIP/segment_pseudo_labels"):
        for file in (valor_layout.features / folder).iterdir():
            file.unlink()
        (valor_layout.features / folder).rmdir()
    report = check(valor_layout)
    assert [(p.stream, p.kind) for p in report.problems] == [("visual", "no folder")]
    assert [r.stream for r in report.remarks if r.kind == "no folder"] == ["pseudo_visual"]


def test_a_stream_without_any_good_file_lists_all(valor_layout):
    for file in (valor_layout.features / "CLIP/features").iterdir():
        file.write_bytes(b"")
    assert check(valor_layout).counts == {("visual", "truncated"): 14}


def test_blemishes_are_remarks(valor_layout):
    (path,) = valor_layout.annotations.glob("*eval_audio*")
    path.write_text(path.read_text() + "nobody_0_10\t0\t3\tDog\n")
    report = check(valor_layout)
    assert report.ok
    assert [r.item.split(",")[0] for r in report.remarks if r.kind == "unknown video"] == [path.name]


def test_annotations_that_cannot_be_used_are_an_error(valor_layout):
    (valor_layout.annotations / WEAK_FILES["val"]).write_text("")
    with pytest.raises(UserError, match="is empty"):
        check(valor_layout)


def test_nothing_is_read_twice(valor_layout, monkeypatch):
    read_array, read = layouts.read_array, []
    monkeypatch.setattr(layouts, "read_array", lambda path: read.append(path) or read_array(path))
    check(valor_layout)
    assert len(read) == len(set(read)) == 70


def test_a_good_bank_is_fine(bank):
    report = check_bank(bank.folder)
    assert report.ok
    assert report.num_files == 3 * 7 + 2 * 2
    assert report.remarks == ()


def flip_last_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def overwrite(path, value):
    array = np.load(path)
    array[1] = value
    np.save(path, array)


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        ("audio", flip_last_bit, {"changed"}),
        ("audio", lambda path: path.unlink(), {"missing"}),
        ("audio", lambda path: path.write_bytes(path.read_bytes()[:-1]), {"truncated"}),
        ("audio", lambda path: np.save(path, np.ones((7, 9, 6), np.float32)), {"misshapen"}),
        ("motion", lambda path: overwrite(path, np.nan), {"changed", "not finite"}),
        ("pseudo_audio", lambda path: overwrite(path, 2), {"changed", "not 0 or 1"}),
        ("ids", lambda path: overwrite(path, np.load(path)[0]), {"changed", "repeated ids"}),
    ],
)
def test_a_damaged_bank(bank, name, damage, found):
    damage(bank.folder / "train" / f"{name}.npy")
    report = check_bank(bank.folder)
    assert {p.kind for p in report.problems} == found
    assert {p.stream for p in report.problems} == {f"train {name}"}


def test_extra_files_of_a_bank(bank):
    (bank.folder / "val" / "notes.txt").touch()
    assert [(p.kind, p.item) for p in check_bank(bank.folder).problems] == [("extra", "val/notes.txt")]


def test_remarks_on_a_bank(valor_layout, tmp_path):
    (valor_layout.features / "CLAP/features" / f"{IDS[0]}.npy").unlink()
    np.save(valor_layout.features / "CLIP/segment_pseudo_labels" / f"{IDS[2]}.npy", np.ones((10, 25), int))
    prepare_bank(*valor_layout, tmp_path / "bank", layout="valor", skip_missing=True)
    report = check_bank(tmp_path / "bank")
    assert report.ok
    assert {(r.stream, r.kind, r.item) for r in report.remarks} == {
        ("bank", "skipped videos", "train"),
        ("train pseudo_visual", "beyond the weak label", IDS[2]),
    }


def test_no_bank_and_a_damaged_manifest(bank, tmp_path):
    with pytest.raises(MissingFileError, match="no feature bank"):
        check_bank(tmp_path / "none")
    (bank.folder / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(UserError, match="damaged"):
        check_bank(bank.folder)
