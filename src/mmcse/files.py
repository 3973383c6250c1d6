"""Files that exist completely or not at all."""

import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmcse.errors import UserError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for binary writing that appears under its name only when it is complete.

    The bytes go to a temporary file in the same folder (created where it is missing), are flushed to the disk
    and take the name in one step. After an error or an interruption the old file, if any, is untouched and
    the temporary one is gone.

    Args:
        path: the file to write; one that exists is replaced.

    Yields:
        A binary handle, open for writing and seeking.

    Raises:
        UserError: the disk or the quota is full.
    """
    path = Path(path)
    # Not tempfile.mkstemp: its files are readable by their owner alone, whatever the umask says.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise UserError(
            f"No space left while writing {path} ({error.strerror}). What was there before is untouched. "
            "Free some space, or choose another folder, and run the same command again."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write data as indented JSON, completely or not at all.

    Args:
        path: the file to write; one that exists is replaced.
        data: nested mappings and sequences of plain values, numpy arrays and scalars, and paths. Numbers that
            JSON does not know (nan, infinities) become null.

    Raises:
        TypeError: a value has no form in JSON.
        UserError: the disk or the quota is full.
    """
    text = json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as handle:
        handle.write(text.encode() + b"\n")


def _plain(value: Any) -> Any:
    """The value in the types that `json` knows."""
    match value:
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case str() | bytes():
            return value
        case Sequence():
            return [_plain(item) for item in value]
        case os.PathLike():
            return os.fspath(value)
        case _:
            return value
