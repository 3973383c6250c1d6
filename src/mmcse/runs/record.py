"""The record of a run, `result.json`: the one file that says what was run and what came out."""

import importlib.metadata
import json
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mmcse import __version__
from mmcse.errors import UserError, one_line
from mmcse.files import write_json

RECORD_FORMAT = 1
RECORD_FILE = "result.json"

_CPUINFO = Path("/proc/cpuinfo")
_PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "torchmetrics", "numpy")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run folder, or None where there is none.

    Raises:
        UserError: the file is not a record, or one of a later version of the suite.
    """
    file = folder / RECORD_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        reason = one_line(error)
        raise UserError(f"{file} cannot be read as a record of a run: {reason}. Move it away to run anew.") from error
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise UserError(f"{file} is not a record of a run: it has no format number. Move it away to run anew.")
    if record["format"] > RECORD_FORMAT:
        raise UserError(
            f"{file} has format {record['format']}; this version of mmcse knows up to {RECORD_FORMAT}. Update mmcse."
        )
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a run's record, completely or not at all."""
    write_json(folder / RECORD_FILE, {"format": RECORD_FORMAT, **record})


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions, commit and machine: what a result may depend on besides its configuration."""
    return {
        "mmcse": __version__,
        "git": _git_state(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
    }


def processor_name() -> str:
    """The processor, as the system calls it: on Linux with its family and model, for rented machines hide its name."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = [f"{name.split()[-1]} {fields[name]}" for name in ("cpu family", "model") if name in fields]
    return fields["model name"] + (f" ({', '.join(numbers)})" if numbers else "")


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes.

    On Linux not by `getrusage`: there a process starts with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _git_state() -> dict[str, Any] | None:
    """Commit of the checkout this package lies in, and whether it was changed since; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):  # an environment that merely lies inside some other checkout
            return None
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", ":/src", ":/conf")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
