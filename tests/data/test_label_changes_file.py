"""Files of label changes: what is written is read back, and whatever else lies in a file is refused by its line."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmcse.data import read_annotations
from mmcse.data.label_changes import RemovedLabels, read_label_changes, write_label_changes
from mmcse.errors import MissingFileError, UserError
from mmcse.vocabulary import LLP_CLASSES

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


names = st.text(st.characters(exclude_characters="\t\n\r,", exclude_categories=("Cs",)), min_size=1)


@given(st.lists(names, min_size=3, max_size=3, unique=True), st.lists(names, min_size=3, max_size=3, unique=True))
@example(ids=['a"1', "b'2", "c\u20283"], classes=['"Speech"', 'Do"g', "Frying\x0b\x85(food)"])
def test_any_name_of_a_line_is_read_back(tmp_path_factory, ids, classes):
    removed = RemovedLabels(WEAK, ~WEAK & False)
    file = tmp_path_factory.mktemp("changes") / "changes.tsv"
    write_label_changes(file, removed, ids, classes)
    assert np.array_equal(read_label_changes(file, ids, classes, WEAK).audio, WEAK)


@pytest.mark.parametrize(
    ("ids", "classes", "name"),
    [
        (("a\t1", "b2", "c3"), CLASSES, r"'a\\t1'"),
        (("a1", "b\n2", "c3"), CLASSES, r"'b\\n2'"),
        (("a1", "b2", ""), CLASSES, "''"),
        (IDS, ("Speech", "Dog,Cat", "Frying"), "'Dog,Cat'"),
    ],
)
def test_a_name_that_would_be_read_as_something_else_is_refused(tmp_path, ids, classes, name):
    with pytest.raises(UserError, match=f"{name} cannot stand in a table of label changes. Expected text without tabs"):
        write_label_changes(tmp_path / "c.tsv", RemovedLabels(WEAK, WEAK), ids, classes)
    assert not (tmp_path / "c.tsv").exists()


def test_what_a_spreadsheet_makes_of_a_file_is_read(tmp_path):
    (tmp_path / "c.tsv").write_bytes(("\ufeff" + HEAD + "a1\tDog\t\n").replace("\n", "\r\n").encode())
    assert read_label_changes(tmp_path / "c.tsv", IDS, CLASSES, WEAK).audio.tolist() == [[0, 1, 0], [0] * 3, [0] * 3]


def test_changes_are_counted_by_class_and_modality():
    removed = RemovedLabels(np.zeros((3, 3), bool), np.array([[0, 1, 0], [0, 1, 1], [1, 1, 0]], bool))
    assert list(removed.lines(WEAK, CLASSES)) == [
        "of 7 labels, audio loses 0 and visual 5; 0 are lost by both",
        "audio: none",
        "visual: Dog 3, Speech 1, Frying_(food) 1",
    ]


def test_the_changes_of_the_authors_of_ma(shared, tmp_path):
    """Their counts, as their paper's code has them, and all of them through a file of ours."""
    train = read_annotations(shared / "llp", "train")
    with np.load(shared / "zoo" / "ma_label_changes.npz", allow_pickle=False) as file:
        assert tuple(file["filenames"]) == train.names
        bits = (np.unpackbits(file[f"change_{modality}"], axis=1, count=25) for modality in ("audio", "visual"))
        removed = RemovedLabels(*(changes > 0 for changes in bits))
    assert not any((changes & (train.weak == 0)).any() for changes in removed)
    assert list(removed.lines(train.weak, LLP_CLASSES)) == [
        "of 16,057 labels, audio loses 1,583 and visual 3,509; 811 are lost by both",
        "audio: Speech 1,263, Singing 243, Violin_fiddle 52, Cello 11, Cheering 7, Car 3, Acoustic_guitar 2, "
        "Motorcycle 1, Clapping 1",
        "visual: Speech 3,172, Singing 145, Cheering 69, Violin_fiddle 65, Cello 45, Acoustic_guitar 6, Dog 4, "
        "Baby_cry_infant_cry 2, Accordion 1",
    ]
    write_label_changes(tmp_path / "ma.tsv", removed, train.ids, LLP_CLASSES)
    found = read_label_changes(tmp_path / "ma.tsv", train.ids, LLP_CLASSES, train.weak)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, removed, strict=True))


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
