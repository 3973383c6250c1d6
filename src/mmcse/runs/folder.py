"""A run's folder: whose it is, and the record that is kept in it from the first moment on."""

import os
import shutil
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from mmcse.errors import UserError, disk_failure
from mmcse.files import remove_unfinished
from mmcse.runs.record import now, peak_memory, read_record, write_record

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints within that of a run."""
LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a run's folder for oneself, making it where it is missing, and clear away what was left half-written in it.

    Of several processes that train one run together, the first claims it for all.

    Raises:
        UserError: the folder cannot be made, or another launch is at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_failure(error, folder) or UserError(
            f"The run's folder {folder} cannot be made: {error.strerror}. Choose another run.root."
        ) from None
    with ExitStack() as held:
        if is_first_process():
            held.enter_context(_locked(folder))
            for place in (folder, folder / CHECKPOINTS):
                remove_unfinished(place)
        yield


def _locked(folder: Path) -> AcquireReturnProxy:
    try:
        return FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training this very run in {folder}. Wait for it, or change the seed."
        ) from None
    except OSError as error:
        raise disk_failure(error, folder) or error from None


def finished(folder: Path, identity: str) -> dict[str, Any] | None:
    """The record of a run that has come to its end, or None where there is something left to do.

    Raises:
        UserError: the folder holds another run.
    """
    record = read_record(folder)
    if record is None:
        return None
    if record.get("identity") != identity:
        raise UserError(
            f"{folder} holds another run ({record.get('identity')}, not {identity}). Choose another run.root."
        )
    return record if record.get("status") == "ok" else None


def forget(folder: Path) -> None:
    """Remove what an earlier run left in a folder that is going to be used anew."""
    if is_first_process():
        for file in folder.iterdir():
            if file.is_file() and file.name != LOCK:
                file.unlink()
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


@contextmanager
def recorded(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Keep a record of what happens inside: running, and then ok, interrupted or failed, with the error.

    Args:
        folder: where `result.json` is written, at the start and at the end.
        record: what is known beforehand; whatever is added to it meanwhile is written in the end.

    Raises:
        UserError: in place of an error of the system that is about a disk, a folder or a network drive.
    """
    record |= {"status": "running", "started": now()}
    clock = time.monotonic()
    _write(folder, record)
    try:
        yield
        record["status"] = "ok"
    except KeyboardInterrupt:
        record["status"] = "interrupted"
        raise
    except BaseException as error:
        record |= {"status": "failed", "error": str(error), "traceback": traceback.format_exc()}
        if isinstance(error, OSError) and not isinstance(error, UserError) and (failure := disk_failure(error)):
            raise failure from error
        raise
    finally:
        record["finished"] = now()
        record["seconds"] = {**record.get("seconds", {}), "total": time.monotonic() - clock}
        record["peak_memory_bytes"] = peak_memory()
        _write(folder, record)


def _write(folder: Path, record: dict[str, Any]) -> None:
    if is_first_process():
        write_record(folder, record)


def num_processes() -> int:
    """How many processes train one run together, as their launcher says."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_first_process() -> bool:
    """Whether this process speaks and writes for all that train one run together."""
    return not getattr(rank_zero_only, "rank", 0)  # Lightning reads it from the launcher's environment
