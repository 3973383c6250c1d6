"""The .npz files that may come from anywhere: read without unpickling, and without unpacking more than is expected."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmcse.data.npy import size_text
from mmcse.errors import MissingFileError, UserError

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, SyntaxError, MemoryError)


def read_arrays(
    path: Path, names: Sequence[str], optional: Sequence[str] = (), *, most: int, what: str, advice: str
) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file.

    Args:
        path: the file.
        names: arrays that must be in it.
        optional: arrays that are read where they are there.
        most: bytes that it may unpack to.
        what: what the file holds, for messages: "predictions".
        advice: how such a file is written, a sentence.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not an .npz file, is damaged, lacks an array, unpacks to more, or holds Python objects.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no {what} file {path}. Give the path of an .npz file.")
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise UserError(f"{path} is not an .npz file. {advice}")
    try:
        with zipfile.ZipFile(path) as archive:  # before anything is unpacked: some kilobytes may hold gigabytes
            if (size := sum(entry.file_size for entry in archive.infolist())) > most:
                raise UserError(f"{path} unpacks to {size_text(size)}; here {what} can be {size_text(most)} at most.")
        with np.load(path, allow_pickle=False) as archive:
            if missing := [name for name in names if name not in archive.files]:
                raise UserError(
                    f"{path} holds {some(archive.files)}, but not {some(missing)}; expected {', '.join(names)}."
                )
            return {name: archive[name] for name in (*names, *optional) if name in archive.files}
    except _DAMAGED as error:
        raise UserError(f"{path} is truncated or damaged ({error}). Write or copy it again.") from error
    except UserError:
        raise
    except ValueError as error:  # numpy's for a pickled array, and for a header or a body that makes no sense
        raise UserError(
            f"{path} holds an array that cannot be read ({error}). Save plain arrays, not Python objects. {advice}"
        ) from error


def as_strings(path: Path, name: str, array: np.ndarray) -> list[str]:
    """An array of text or bytes (N,) as a list of strings.

    Raises:
        UserError: it is none.
    """
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise UserError(f"{path}: {name!r} is {array.dtype} of shape {array.shape}; expected (N,) strings.")
    return np.strings.decode(array, "utf-8", "replace").tolist() if array.dtype.kind == "S" else array.tolist()


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
