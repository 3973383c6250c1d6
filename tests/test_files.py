import errno
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from mmcse.errors import UserError
from mmcse.files import atomic_write, write_json


def test_a_file_appears_when_it_is_complete(tmp_path):
    file = tmp_path / "new" / "folder" / "a.npz"
    with atomic_write(file) as handle:
        np.savez(handle, x=np.arange(3))
        assert not file.exists()
    np.testing.assert_array_equal(np.load(file)["x"], [0, 1, 2])
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
def test_an_interruption_leaves_the_old_file(tmp_path, error):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(file) as handle:  # noqa: PT012
        handle.write(b"half")
        raise error
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_the_users_to_mend(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = r"No space left at .*a .*untouched.*Free some space"
    with pytest.raises(UserError, match=message), atomic_write(file) as handle:
        handle.write(b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_other_errors_stay_what_they_are(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "file" / "a"):
        pass


def test_permissions_follow_the_umask(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "a"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")}
    assert len(modes) == 1


def test_json(tmp_path):
    file = tmp_path / "a.json"
    data = {
        "score": np.float64(1.5),
        "counts": np.arange(3),
        "f": np.array([0.5, np.nan]),
        "infinite": float("inf"),
        "path": Path("x") / "y",
        "flags": (True, None, np.bool_(False)),
        3: "ä",
    }
    write_json(file, data)
    assert json.loads(file.read_text(encoding="utf-8")) == {
        "score": 1.5,
        "counts": [0, 1, 2],
        "f": [0.5, None],
        "infinite": None,
        "path": "x/y",
        "flags": [True, None, False],
        "3": "ä",
    }
    assert file.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(TypeError):
        write_json(file, {"x": object()})
    assert json.loads(file.read_text(encoding="utf-8"))["score"] == 1.5
