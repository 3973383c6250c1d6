from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layout_files import write_table
from mmcse.data import read_annotations
from mmcse.data.annotations import AUDIO_FILE, ORIGINAL_AUDIO_FILE, VISUAL_FILE, WEAK_FILES, identify
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluation import parsing_scores
from mmcse.vocabulary import LLP_CLASSES

CLASSES = ("Dog", "Cat", "Speech")
WEAK = ("filename", "event_labels")
DENSE = ("filename", "onset", "offset", "event_labels")
FIRST, SECOND, OTHER = "aaaaaaaaaaa_0_10", "bbbb-bbb_bb_30_40", "ccccccccccc_5_15"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Annotations of two test videos and one of validation."""
    write_table(tmp_path / WEAK_FILES["test"], WEAK, [(FIRST, "Dog,Speech"), (SECOND, "Cat")])
    write_table(tmp_path / WEAK_FILES["val"], WEAK, [(OTHER, "Dog")])
    write_table(tmp_path / AUDIO_FILE, DENSE, [(FIRST, 0, 2, "Dog"), (SECOND, 3, 4, "Cat"), (OTHER, 0, 4, "Dog")])
    write_table(tmp_path / VISUAL_FILE, DENSE, [(FIRST, 1, 3, "Speech"), (SECOND, 0, 4, "Cat")])
    return tmp_path


def read(folder: Path, split: str = "test", **kwargs):
    return read_annotations(folder, split, classes=CLASSES, num_segments=4, **kwargs)


def test_rows_mark_the_segments_between_onset_and_offset(folder):
    labels = read(folder)
    assert labels.names == (FIRST, SECOND)
    assert labels.ids == ("aaaaaaaaaaa", "bbbb-bbb_bb")
    np.testing.assert_array_equal(labels.weak, [[True, False, True], [False, True, False]])
    np.testing.assert_array_equal(labels.true_audio[0].T, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(labels.true_audio[1, :, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(labels.true_visual[0].T, [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]])
    assert labels.blemishes == ()


def test_training_videos_have_no_dense_truth(folder):
    write_table(folder / WEAK_FILES["train"], WEAK, [(OTHER, "Cat")])
    labels = read(folder, "train")
    assert labels.true_audio is None
    assert labels.true_visual is None


@given(st.lists(st.tuples(*[st.integers(0, n) for n in (1, 4, 4, 2)]), min_size=1, max_size=12))
def test_marking_equals_marking_row_by_row(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("annotations")
    names = (FIRST, SECOND)
    write_table(folder / WEAK_FILES["test"], WEAK, [(name, "Dog,Cat,Speech") for name in names])
    for file in (AUDIO_FILE, VISUAL_FILE):
        write_table(folder / file, DENSE, [(names[v], on, off, CLASSES[k]) for v, on, off, k in rows])
    expected = np.zeros((2, 4, 3), dtype=bool)
    for video, onset, offset, k in rows:
        expected[video, onset:offset, k] = True
    np.testing.assert_array_equal(read(folder).true_audio, expected)


def test_blemishes_are_survived_and_counted_by_kind(folder):
    rows = [
        (FIRST, 3, 3, "Dog"),
        (FIRST, 4, 1, "Dog"),
        (FIRST, 0, 1, "Cat"),
        (FIRST, 0, 1, "Cat"),
        ("Dog", 0, 4, "Dog"),
        ("Dog", 0, 2, "Cat"),
        (f"{SECOND}`", 0, 4, "Cat"),
        (OTHER, 0, 4, "Dog"),
    ]
    write_table(folder / AUDIO_FILE, DENSE, rows)
    labels = read(folder)
    assert labels.blemish_counts == {
        "empty span": 2,
        "duplicate row": 1,
        "unknown video": 2,  # once per name
        "video without rows": 1,
        "event not in the weak label": 1,
    }
    assert f"duplicate row: {AUDIO_FILE}, line 5: {FIRST} 0 1 Cat" in map(str, labels.blemishes)
    assert labels.true_audio.sum() == 1


def test_unknown_videos_are_not_reported_where_nobody_can_know(folder):
    (folder / WEAK_FILES["val"]).unlink()
    assert "unknown video" not in read(folder).blemish_counts


def test_byte_order_mark_carriage_returns_and_blank_lines_are_harmless(folder):
    for path in folder.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert read(folder).true_audio.sum() == 3


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (WEAK_FILES["test"], "filename\tevent_labels\nx\tDog,Catt\n", r"line 2: unknown class 'Catt'.*'Cat'"),
        (WEAK_FILES["test"], "", "is empty"),
        (WEAK_FILES["test"], "filename\tevent_labels\n", "is empty"),
        (WEAK_FILES["test"], "filename,event_labels\nx,Dog\n", r"line 1: found 1 column.*separated by commas"),
        (WEAK_FILES["test"], "name\tlabels\nx\tDog\n", r"line 1: the header is 'name, labels'"),
        (WEAK_FILES["test"], "filename\tevent_labels\nx\tDog\ny\n", r"line 3: found 1 column"),
        (WEAK_FILES["test"], "filename\tevent_labels\nx\t\n", r"line 2: the field 'event_labels' is empty"),
        (
            WEAK_FILES["test"],
            f"filename\tevent_labels\n{FIRST}\tDog\n{FIRST}\tCat\n",
            r"line 3: video .* already listed in line 2",
        ),
        (AUDIO_FILE, "filename\tonset\toffset\tevent_labels\nx\t0\t1\tdog\n", r"line 2: unknown class 'dog'.*'Dog'"),
        (AUDIO_FILE, "filename\tonset\toffset\tevent_labels\nx\t0.5\t1\tDog\n", r"line 2: onset is '0.5'"),
        (AUDIO_FILE, "filename\tonset\toffset\tevent_labels\nx\t0\t5\tDog\n", r"line 2: offset is 5: expected 0 to 4"),
        (AUDIO_FILE, "filename\tonset\toffset\tevent_labels\nx\t-1\t3\tDog\n", r"line 2: onset is -1"),
        (AUDIO_FILE, "filename,onset,offset,event_labels\nx,0,1,Dog\n", r"line 1: .*separated by commas"),
    ],
)
def test_a_wrong_file_is_an_error_with_its_name_and_line(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read(folder)
    assert file in str(caught.value)


def test_a_binary_file_is_an_error(folder):
    (folder / VISUAL_FILE).write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(UserError, match="not a text file"):
        read(folder)


def test_missing_files_and_splits(folder):
    with pytest.raises(MissingFileError, match=r"no annotation file mine\.csv"):
        read(folder, audio_file="mine.csv")
    with pytest.raises(MissingFileError, match=WEAK_FILES["train"]):
        read(folder, "train")
    with pytest.raises(UserError, match="Unknown split 'dev'"):
        read(folder, "dev")


class TestRealFiles:
    @pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("val", 649), ("test", 1_200)])
    def test_counts(self, shared, split, count):
        labels = read_annotations(shared / "llp", split)
        assert len(labels.ids) == len(set(labels.ids)) == len(labels.weak) == count
        assert labels.weak.any(axis=1).all()
        assert (labels.true_audio is None) == (split == "train")

    def test_blemishes(self, shared):
        found = {split: read_annotations(shared / "llp", split).blemishes for split in WEAK_FILES}
        assert found["train"] == ()
        blemishes = set(found["val"] + found["test"])  # both splits report the names that belong to neither
        # One of the file's 6 rows with onset >= offset is of an unknown video.
        assert Counter(b.kind for b in blemishes if not b.kind.startswith(("video", "unknown"))) == {
            "empty span": 5,
            "duplicate row": 8,
            "event not in the weak label": 65,
            "class named twice": 1,
        }
        assert len({b.what for b in blemishes if b.kind == "unknown video"}) == 8
        silent = Counter(b.where for b in blemishes if b.kind == "video without rows")
        assert silent == {AUDIO_FILE: 9, VISUAL_FILE: 191}

    def test_the_original_audio_file_lacks_three_rows(self, shared):
        changed = {}
        for split in ("val", "test"):
            corrected = read_annotations(shared / "llp", split)
            original = read_annotations(shared / "llp", split, ORIGINAL_AUDIO_FILE)
            np.testing.assert_array_equal(corrected.true_visual, original.true_visual)
            assert not (original.true_audio & ~corrected.true_audio).any()
            videos, segments, _ = np.nonzero(corrected.true_audio & ~original.true_audio)
            for video in np.unique(videos):
                changed[corrected.names[video]] = segments[videos == video].tolist()
            unknown = {b.what for b in original.blemishes if b.kind == "unknown video"}
            assert {"Baby_cry_infant_cry", "KvIjsmANkxI_10_20`"} <= unknown
        assert changed == {"JfZEqeLZqWk_30_40": [0, 1, 2, 3, 7, 8, 9], "KvIjsmANkxI_10_20": [0]}

    @pytest.mark.parametrize(
        ("audio_file", "speech_only", "weak_everywhere"),
        [
            (AUDIO_FILE, (16.56, 10.08, 14.50, 13.72, 14.41), (76.12, 60.35, 52.61, 63.03, 71.73)),
            (ORIGINAL_AUDIO_FILE, (16.53, 10.08, 14.50, 13.70, 14.38), (76.08, 60.35, 52.61, 63.01, 71.70)),
        ],
    )
    def test_floors_of_the_test_split(self, shared, audio_file, speech_only, weak_everywhere):
        labels = read_annotations(shared / "llp", "test", audio_file)
        nothing = np.zeros_like(labels.true_audio)
        everywhere = np.broadcast_to(labels.weak[:, None], nothing.shape)
        speech = nothing.copy()
        speech[:, :, LLP_CLASSES.index("Speech")] = True
        for audio, visual, floor in (
            (nothing, nothing, (0.50, 10.08, 14.50, 8.36, 0.00)),
            (speech, nothing, speech_only),
            (everywhere, everywhere, weak_everywhere),
        ):
            scores = parsing_scores(audio, visual, labels.true_audio, labels.true_visual)
            found = [float(scores[f"segment/{name}"]) for name in ("A", "V", "AV", "Type", "Event")]
            assert found == pytest.approx(floor, abs=0.0051)

    def test_files_are_identified(self, shared):
        editions = {path.name: identify(path) for path in (shared / "llp").glob("*.csv")}
        assert editions.pop(AUDIO_FILE) == "LLP as corrected later"
        assert editions.pop(ORIGINAL_AUDIO_FILE) == "LLP as used by published numbers"
        assert set(editions.values()) == {"LLP"}
        assert identify(Path(__file__)) == "unknown"


def test_annotations_unpack_into_what_is_scored(shared):
    annotations = read_annotations(shared / "llp", "val")
    ids, weak, true_audio, true_visual = annotations
    assert ids == annotations.ids
    assert weak is annotations.weak
    assert true_audio is annotations.true_audio
    assert true_visual is annotations.true_visual
