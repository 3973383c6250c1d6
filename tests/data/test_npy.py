import errno
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmcse.data import npy
from mmcse.data.npy import ArrayAppender, DamagedFileError, map_array, read_array, read_header, size_text, write_array
from mmcse.errors import UserError

ARRAYS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.int64, np.uint8]), hnp.array_shapes(max_dims=3, min_side=0, max_side=4)
)


@given(ARRAYS, st.booleans())
def test_reads_what_numpy_writes(tmp_path_factory, array, fortran):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.asfortranarray(array) if fortran else array)
    for read in (read_array, map_array):
        found = read(path)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@given(ARRAYS)
def test_numpy_reads_what_is_written(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    write_array(path, array)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)


@pytest.mark.parametrize("kept", [0, 3, 50, 130, 200])
def test_a_truncated_file_is_an_error(tmp_path, kept):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((5, 4), np.float32))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFileError, match=r"a\.npy is (truncated|unreadable)"):
        read_array(path)


def test_a_longer_file_is_an_error(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.ones(3))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DamagedFileError, match="needs 24 bytes of data, found 25"):
        read_array(path)


class Bomb:
    """Unpickling it would be noticed."""

    def __reduce__(self):
        return pytest.fail, ("something was unpickled",)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedFileError) as caught:
        read_array(path)
    assert caught.value.kind == "pickled"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DamagedFileError) as caught:
        read_array(path)
    assert caught.value.kind == "pickled"


def test_an_absurd_header_allocates_nothing(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((1, 1), np.float32))
    data = path.read_bytes()
    shape = b"(1, 1), }"
    absurd = b"(999999999999, 999999999999), }"
    at = data.index(shape)
    path.write_bytes(data[:at] + absurd + data[at + len(absurd) :])
    for read in (read_header, read_array, map_array):
        with pytest.raises(DamagedFileError) as caught:
            read(path)
        assert caught.value.kind == "truncated"


@pytest.mark.parametrize("content", [b"filename\tevent_labels\n", b"PK\x03\x04 an npz", b"\x93NUMPY\x03\x00 odd"])
def test_other_files_are_unreadable(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content * 20)
    with pytest.raises(DamagedFileError) as caught:
        read_header(path)
    assert caught.value.kind == "unreadable"


def test_a_folder_or_nothing_is_unreadable(tmp_path):
    for path in (tmp_path, tmp_path / "none.npy"):
        with pytest.raises(DamagedFileError, match="unreadable"):
            read_array(path)


@given(cut=st.integers(0, 400), first=st.integers(0, 9))
def test_an_appender_goes_on_where_it_was_cut_off(tmp_path_factory, cut, first):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    rows = np.arange(9 * 2 * 3, dtype=np.float32).reshape(9, 2, 3)
    with ArrayAppender(path, rows.shape, rows.dtype) as array:
        array.append(rows[:first])
    path.write_bytes(path.read_bytes()[:cut])
    with ArrayAppender(path, rows.shape, rows.dtype) as array:
        assert array.rows_done == min(first, max(0, cut - 128) // 24)
        array.append(rows[array.rows_done :])
    np.testing.assert_array_equal(read_array(path), rows)


def test_an_appender_of_another_shape_starts_anew(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.ones((4, 2), np.float32))
    with ArrayAppender(path, (4, 3), np.float32) as array:
        assert array.rows_done == 0
        with pytest.raises(ValueError, match="cannot append"):
            array.append(np.ones((5, 3)))
        with pytest.raises(ValueError, match="cannot append"):
            array.append(np.ones((1, 2)))


def test_a_full_disk_says_what_to_do_and_keeps_what_is_done(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    rows = np.random.default_rng(0).standard_normal((10, 100))
    with ArrayAppender(path, rows.shape, rows.dtype) as array:
        array.append(rows[:4])

        def full(file, data):
            file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(npy, "write_bytes", full)
            with pytest.raises(UserError, match=r"No space left .* 4\.8 kB still .* kept"):
                array.append(rows[4:])
    with ArrayAppender(path, rows.shape, rows.dtype) as array:
        assert array.rows_done == 7
        array.append(rows[7:])
    np.testing.assert_array_equal(read_array(path), rows)


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (7.8e9, "7.8 GB")])
def test_sizes_for_people(count, text):
    assert size_text(count) == text
