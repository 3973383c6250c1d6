"""Files of label changes: what is written is read back, and whatever else lies in a file is refused by its line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcse.data.label_changes import RemovedLabels, read_label_changes, write_label_changes
from mmcse.errors import MissingFileError, UserError

CLASSES, IDS = ("Speech", "Dog", "Frying_(food)"), ("a1", "b2", "c3")
WEAK = np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
HEAD = "id\tremoved_from_audio\tremoved_from_visual\n"


@given(st.lists(st.booleans(), min_size=18, max_size=18))
def test_what_is_written_is_read_back(tmp_path_factory, bits):
    removed = RemovedLabels(*(np.array(bits).reshape(2, 3, 3) & WEAK))
    file = tmp_path_factory.mktemp("changes") / "changes.tsv"
    write_label_changes(file, removed, IDS, CLASSES)
    for found, expected in zip(read_label_changes(file, IDS, CLASSES, WEAK), removed, strict=True):
        assert np.array_equal(found, expected)
    assert len(file.read_text().splitlines()) == 1 + (removed.audio | removed.visual).any(axis=1).sum()


def test_the_format_is_the_documented_one(tmp_path):
    removed = RemovedLabels(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]], bool), np.eye(3, dtype=bool)[[1, 2, 2]])
    write_label_changes(tmp_path / "c.tsv", removed, IDS, CLASSES)
    lines = ["a1\tSpeech,Dog\tDog", "b2\t\tFrying_(food)", "c3\t\tFrying_(food)"]
    assert (tmp_path / "c.tsv").read_text() == HEAD + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", r"line 1: found \[\]"),
        ("id\tvisual\n", "line 1: found"),
        (HEAD + "a1\tSpeech\n", "line 2: found .* Expected 3 columns"),
        (HEAD + "a1\tspeech\t\n", "line 2: unknown class 'speech'. Did you mean 'Speech'"),
        (HEAD + "a1\t\t\na1\tDog\t\n", "line 3: video 'a1' stands there a second time"),
        (HEAD + "b2\tSpeech\t\n", "line 2: b2 is not labelled with Speech"),
        (HEAD + "x9\tSpeech\t\n", "names 1 videos, none of which is in the data"),
        (b"\xff\xfe", "no text in UTF-8"),
    ],
)
def test_anything_else_is_refused(tmp_path, content, said):
    file = tmp_path / "c.tsv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said):
        read_label_changes(file, IDS, CLASSES, WEAK)


def test_videos_that_the_data_do_not_have_are_counted(tmp_path, caplog):
    (tmp_path / "c.tsv").write_text(HEAD + "a1\tDog\t\nx9\tDog\t\ny8\t\tDog\n")
    assert read_label_changes(tmp_path / "c.tsv", IDS, CLASSES, WEAK).audio.sum() == 1
    assert "2 videos that the data do not have" in caplog.text


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="Expected label changes: lines of id, removed_from_audio"):
        read_label_changes(tmp_path / "c.tsv", IDS, CLASSES, WEAK)
