"""The history of a training, read back."""

import numpy as np
import pytest

from mmcse.callbacks.history import History, read_history
from mmcse.errors import MissingFileError, UserError


def test_what_was_written_is_read_back(tmp_path):
    history = History(tmp_path / "history.csv")
    history.rows = [{"epoch": 1, "train/total": 0.1 + 0.2}, {"epoch": 2, "train/total": 1e-17, "val/Avg": 3.0}]
    history._write()
    columns = read_history(history.file)
    assert columns["epoch"].tolist() == [1, 2]
    assert columns["train/total"].tolist() == [0.1 + 0.2, 1e-17]
    np.testing.assert_array_equal(columns["val/Avg"], [np.nan, 3])


def test_a_training_that_has_not_finished_an_epoch_has_no_columns(tmp_path):
    for text in ("", "epoch,lr\n"):
        (tmp_path / "history.csv").write_text(text)
        assert read_history(tmp_path / "history.csv") == {}


@pytest.mark.parametrize("text", ["epoch,lr\n1\n", "epoch\none\n", "epoch,lr\n1,2,3\n"])
def test_other_tables_are_refused(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(UserError, match="not a history as `mmcse train` writes it"):
        read_history(tmp_path / "history.csv")


def test_a_missing_history_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="no history of a training at"):
        read_history(tmp_path / "history.csv")
