"""Folders of segment labels: they take the place of pseudo labels in training, and are checked."""

import numpy as np
import pytest

from mmcse.data import AVVPDataModule
from mmcse.data.segment_labels import FILES, read_segment_labels
from mmcse.errors import MissingFileError, UserError

SHAPE = (4, 3, 2)


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(FILES):
        np.save(tmp_path / name, np.random.default_rng(index).random(SHAPE))
    return tmp_path


def test_both_arrays_are_read(folder):
    for labels, name in zip(read_segment_labels(folder, SHAPE), FILES, strict=True):
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
        read_segment_labels(folder, SHAPE)


def test_a_missing_file_is_named(folder):
    (folder / FILES[0]).unlink()
    with pytest.raises(MissingFileError, match=FILES[0]):
        read_segment_labels(folder, SHAPE)
