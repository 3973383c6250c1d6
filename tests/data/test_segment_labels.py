"""Folders of segment labels: they take the place of pseudo labels in training, and are checked."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcse.data import AVVPDataModule
from mmcse.data.segment_labels import ABOUT, FILES, read_segment_labels, require_own, write_segment_labels
from mmcse.errors import MissingFileError, UserError

SHAPE = (4, 3, 2)
IDS, CLASSES = ("a", "b", "c", "d"), ("Dog", "Cat")
DATA = IDS, CLASSES, 3


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(FILES):
        np.save(tmp_path / name, np.random.default_rng(index).random(SHAPE))
    return tmp_path


def test_both_arrays_are_read(folder):
    for labels, name in zip(read_segment_labels(folder, *DATA), FILES, strict=True):
        assert labels.dtype == np.float32
        np.testing.assert_allclose(labels, np.load(folder / name), rtol=1e-6)


def test_training_videos_have_them_and_others_do_not(smoke_bank, tmp_path):
    bank = AVVPDataModule(smoke_bank).bank
    shape = (len(bank.split("train")), bank.num_segments, len(bank.classes))
    soft = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    for labels, name in zip(soft, FILES, strict=True):
        np.save(tmp_path / name, labels)
    module = AVVPDataModule(smoke_bank, batch_size=8, segment_labels=str(tmp_path))
    batch = next(iter(module.train_dataloader()))
    rows = [bank.split("train").ids.index(video) for video in batch.ids]
    assert np.array_equal(batch.pseudo_audio.numpy(), soft[0][rows])
    assert np.array_equal(batch.pseudo_visual.numpy(), soft[1][rows])
    plain = next(iter(AVVPDataModule(smoke_bank).val_dataloader()))
    ours = next(iter(module.val_dataloader()))
    assert (ours.pseudo_audio is None) == (plain.pseudo_audio is None)
    assert ours.weak_audio is None


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 3)), r"float64 of shape \(4, 3\); expected numbers of shape \(4, 3, 2\)"),
        (np.full(SHAPE, "x"), "<U1 of shape"),
        (np.full(SHAPE, 1.5), "outside 0 to 1"),
        (np.full(SHAPE, np.nan), "outside 0 to 1"),
    ],
)
def test_other_arrays_are_refused(folder, array, said):
    np.save(folder / FILES[1], array)
    with pytest.raises(UserError, match=said):
        read_segment_labels(folder, *DATA)


def test_a_missing_file_is_named(folder):
    (folder / FILES[0]).unlink()
    with pytest.raises(MissingFileError, match=FILES[0]):
        read_segment_labels(folder, *DATA)


def written(folder, **changes):
    arrays = [np.random.default_rng(index).random(SHAPE) for index in range(2)]
    write_segment_labels(folder, *arrays, **{"ids": IDS, "classes": CLASSES, "made": {"how": "drawn"}} | changes)
    return arrays


class TestDescribed:
    """Labels with the ids of their videos."""

    @given(order=st.permutations(IDS), count=st.integers(1, 4))
    def test_are_found_by_id(self, tmp_path_factory, order, count):
        folder = tmp_path_factory.mktemp("labels")
        arrays, chosen = written(folder), order[:count]
        for labels, array in zip(read_segment_labels(folder, chosen, CLASSES, 3), arrays, strict=True):
            np.testing.assert_allclose(labels, array[[IDS.index(video) for video in chosen]], rtol=1e-6)

    def test_other_videos_and_classes_are_refused(self, tmp_path):
        written(tmp_path)
        with pytest.raises(UserError, match="no labels for 2 of 3 training videos: x, y"):
            read_segment_labels(tmp_path, ("a", "x", "y"), CLASSES, 3)
        with pytest.raises(UserError, match=r"of 2 classes \(Dog, Cat\), the data have 2 \(Cat, Dog\)"):
            read_segment_labels(tmp_path, IDS, CLASSES[::-1], 3)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"ids": 3, "classes": []}', '{"ids": ["a"]}', "\x93"])
    def test_a_damaged_description(self, tmp_path, text):
        written(tmp_path)
        (tmp_path / ABOUT).write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            read_segment_labels(tmp_path, *DATA)

    def test_fewer_rows_than_ids(self, tmp_path):
        written(tmp_path, ids=(*IDS, "e"))
        with pytest.raises(UserError, match=r"expected numbers of shape \(5, 3, 2\)"):
            read_segment_labels(tmp_path, *DATA)

    def test_replace_their_own_kind_alone(self, folder, tmp_path_factory):
        own, empty = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("empty")
        written(own)
        written(own, made={"how": "again"})
        assert json.loads((own / ABOUT).read_text())["made"] == {"how": "again"}
        (own / "notes.txt").touch()
        require_own(empty)
        for place, found in ((own, "notes.txt"), (folder, FILES[0])):
            with pytest.raises(UserError, match=f"{place} is not a folder of labels .* holds {found}"):
                written(place)
        assert json.loads((own / ABOUT).read_text())["made"] == {"how": "again"}
