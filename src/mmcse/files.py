"""Files that exist completely or not at all."""

import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmcse.errors import UserError, disk_failure

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


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
        UserError: the disk is full or fails, or the folder may not be written.
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
        sync_folder(path.parent)
    except UserError:  # one for a missing file is an OSError too
        raise
    except OSError as error:
        if (failure := disk_failure(error, path, "What was there before is untouched.")) is None:
            raise
        raise failure from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what `atomic_write` left in a folder when its process was killed; nobody may be writing there."""
    for file in folder.glob(".*.tmp"):
        if _UNFINISHED.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can: only then does a new name outlive a power cut."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write data as indented JSON, completely or not at all.

    Args:
        path: the file to write; one that exists is replaced.
        data: nested mappings and sequences of plain values, numpy arrays and scalars, and paths. Numbers that
            JSON does not know (nan, infinities) become null.

    Raises:
        TypeError: a value has no form in JSON.
        UserError: as `atomic_write`.
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
