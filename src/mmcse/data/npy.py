"""The .npy files of features and labels: read without trusting them, written so that a full disk does no harm.

A header is checked against the file's size before anything is allocated, nothing is ever unpickled, and writing goes
through ordinary writes: a page of a memory map that finds no disk space kills the process without a word.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.lib import format as npy_format

from mmcse.errors import UserError, disk_failure, one_line


class DamagedFileError(UserError):
    """A .npy file that cannot be used. `kind` is one or two words for it, to count by; `reason` says more."""

    def __init__(self, path: Path, kind: str, reason: str) -> None:
        super().__init__(f"{path} is {kind}: {reason}.")
        self.path, self.kind, self.reason = path, kind, reason


class Header(NamedTuple):
    """What a .npy file says it holds; `offset` is where its data begins, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of data the file should hold after its header."""
        return num_bytes(self.shape, self.dtype)


def num_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Size of an array in bytes, in exact integers however absurd the shape."""
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def read_header(path: Path) -> Header:
    """Header of a .npy file, checked against the size of the file; its data is not touched.

    Raises:
        DamagedFileError: not a .npy file, pickled, or its size is not what the header says.
    """
    with _reading(path), path.open("rb") as stream:
        return _header_of(stream, path)


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file, in memory.

    Raises:
        DamagedFileError: as `read_header`.
    """
    with _reading(path), path.open("rb") as stream:
        header = _header_of(stream, path)
        flat = np.frombuffer(stream.read(header.nbytes), dtype=header.dtype)
    if len(flat) * header.dtype.itemsize != header.nbytes:
        raise DamagedFileError(path, "truncated", "it became shorter while being read")
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def map_array(path: Path) -> np.ndarray:
    """The array in a .npy file as a read-only memory map.

    Raises:
        DamagedFileError: as `read_header`.
    """
    header = read_header(path)
    if header.nbytes == 0:  # an empty file cannot be mapped
        return np.empty(header.shape, header.dtype)
    order = "F" if header.fortran_order else "C"
    with _reading(path):
        return np.memmap(path, header.dtype, mode="r", offset=header.offset, shape=header.shape, order=order)


def read_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copies of the rows (n,) of an array that `map_array` or `read_array` gave.

    Of a mapped file they are read by ordinary reads. That is faster than to touch the map here and there, and when the
    file shrinks, or its drive goes away, it fails with an error: a touched map would kill the process without a word.

    Raises:
        DamagedFileError: the file cannot be read any more.
    """
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous:
        return array[rows]
    path, row_bytes = Path(str(array.filename)), num_bytes(array.shape[1:], array.dtype)
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    flat = out.reshape(-1).view(np.uint8)
    with _reading(path), path.open("rb", buffering=0) as file:
        for place in np.argsort(rows):  # in the order of the file
            target = flat[place * row_bytes : (place + 1) * row_bytes]
            if os.preadv(file.fileno(), [target.data], array.offset + int(rows[place]) * row_bytes) != row_bytes:
                raise DamagedFileError(path, "truncated", "it became shorter since it was opened")
    return out


def _header_of(stream: io.BufferedReader, path: Path) -> Header:
    size = os.fstat(stream.fileno()).st_size
    if size == 0:
        raise DamagedFileError(path, "truncated", "the file is empty")
    try:
        version = npy_format.read_magic(stream)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran_order, dtype = read(stream)
    except OSError:
        raise
    except Exception as error:  # numpy parses it as Python, so anything that can be wrong with that
        stream.seek(0)
        kind = "pickled" if stream.read(1) == b"\x80" else "unreadable"
        raise DamagedFileError(path, kind, f"no proper .npy header ({one_line(error)})") from None
    header = Header(shape, dtype, fortran_order, stream.tell())
    if dtype.hasobject:
        reason = "it holds Python objects, and loading those can run anything; save a plain numeric array"
        raise DamagedFileError(path, "pickled", reason)
    if any(length < 0 for length in shape):
        raise DamagedFileError(path, "unreadable", f"its header says shape {shape}")
    if (found := size - header.offset) != header.nbytes:
        kind = "truncated" if found < header.nbytes else "unreadable"
        reason = f"shape {shape} of {dtype} needs {header.nbytes:,} bytes of data, found {found:,}"
        raise DamagedFileError(path, kind, reason)
    return header


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedFileError(path, "unreadable", error.strerror or str(error)) from None


class ArrayAppender:
    """Writes a .npy file row by row, and goes on with what an interrupted writer left.

    The header with the final shape stands first, so that the size of the file tells how many rows are done; a row that
    was cut off is written again. A file with another header is started anew.

    Args:
        path: the file; its folder exists.
        shape: final shape, its first axis the rows.
        dtype: of the array.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype | str) -> None:
        self.path, self.shape, self.dtype = path, tuple(shape), np.dtype(dtype)
        self._row_bytes = num_bytes(self.shape[1:], self.dtype)
        header = _header_bytes(self.shape, self.dtype)
        with writing(path, len(header) + num_bytes(self.shape, self.dtype)):
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            if self._file.read(len(header)) != header:
                self._file.seek(0)
                self._file.truncate()
                write_bytes(self._file, memoryview(header))
            body = os.fstat(self._file.fileno()).st_size - len(header)
            self.rows_done = min(body // max(self._row_bytes, 1), self.shape[0])
            self._file.truncate(len(header) + self.rows_done * self._row_bytes)
            self._file.seek(0, os.SEEK_END)

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows (n, ...), in the dtype of the file.

        Raises:
            ValueError: the rows do not fit the shape of the file, or are more than it takes.
            UserError: the disk is full; what was written is kept.
        """
        if rows.shape[1:] != self.shape[1:] or self.rows_done + len(rows) > self.shape[0]:
            raise ValueError(f"{self.path.name} of {self.shape}: cannot append {rows.shape} at {self.rows_done}")
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        with writing(self.path, (self.shape[0] - self.rows_done) * self._row_bytes):
            write_bytes(self._file, data.reshape(-1).view(np.uint8).data)
        self.rows_done += len(rows)

    def close(self) -> None:
        """Bring everything to the disk and close the file."""
        if not self._file.closed:
            with writing(self.path, 0):
                os.fsync(self._file.fileno())
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a whole .npy file by ordinary writes, replacing what is there.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    with writing(path, array.nbytes):
        path.unlink(missing_ok=True)
    with ArrayAppender(path, array.shape, array.dtype) as appender:
        appender.append(array)


def write_bytes(file: io.FileIO, data: memoryview) -> None:
    """Write all of the bytes; a write to a disk that fills up may take only some of them before it fails."""
    while data:
        data = data[file.write(data) :]


@contextmanager
def writing(path: Path, needed: int) -> Iterator[None]:
    """Turn the failures of a disk into errors that say what to do; `needed` is how many bytes are still to come."""
    try:
        yield
    except UserError:  # one for a missing file is an OSError too
        raise
    except OSError as error:
        kept = f"{size_text(needed)} still to be written; what was written so far is kept and will be continued."
        failure = disk_failure(error, path, kept if needed else "")
        if failure is None:
            failure = UserError(f"Cannot write {path}: {error.strerror}. Choose a folder that you may write to.")
        raise failure from None


def size_text(count: int) -> str:
    """A number of bytes for people: `"1.5 GB"`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def _header_bytes(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    buffer = io.BytesIO()
    fields = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy_format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()
