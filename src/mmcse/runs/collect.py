"""From run folders to append-only records: what tables need of every run, in one JSON line each.

Folders of runs may be deleted, moved or copied; what was collected stays. A result is never replaced: a second one of
the same run with other scores stands behind the first, and says so.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.files import atomic_write
from mmcse.runs.identity import identifying
from mmcse.runs.record import RECORD_FILE, read_record

FINAL = ("ok", "failed", "interrupted")
"""Statuses that are collected: a run that is still under way, or was killed, is only counted."""

_KEPT = (
    "name", "identity", "seed", "status", "error", "tags", "started", "finished", "seconds", "device", "precision",
    "kernels", "parameters", "selection", "losses", "scores", "audio_truth",
)  # fmt: skip

_NOT_WHOLE = (KeyError, TypeError, AttributeError, ValueError, RecursionError)

Result = dict[str, Any]
"""One line of the results: a record of a run without what only its folder needs."""


_LONGEST_NAME = 200
"""Bytes of a table's name; those of a file's can be 255, and a file being written has a longer one."""


class Collected(NamedTuple):
    """What a collection did: lines added, runs that were there already, those not at their end, and conflicts."""

    added: int
    known: int
    unfinished: int
    conflicts: list[Result]


def collect(places: Iterable[Path], out: Path, *, per_class: bool = False) -> Collected:
    """Append the results of runs to `<out>/<table>.jsonl`, each once.

    A result is the same as one that is there if name, identity, seed, data, status and scores agree. Where only the
    scores differ, it is appended with `"conflict": true`: the same run gave two results.

    Args:
        places: run folders, or folders with such somewhere below.
        out: folder of the results.
        per_class: also keep the scores of every class.

    Raises:
        UserError: a place holds no run, or a file is damaged.
    """
    results, unfinished = [], 0
    for folder in run_folders(places):
        record = read_record(folder) or {}
        if record.get("status") in FINAL:
            try:
                results.append(_whole(result_of(record, per_class=per_class)))
            except _NOT_WHOLE as error:
                raise UserError(
                    f"{folder / RECORD_FILE} is not a whole record of a run ({_what(error)}). Move it away to run anew."
                ) from error
        else:
            unfinished += 1

    out.mkdir(parents=True, exist_ok=True)
    added, known, conflicts = 0, 0, []
    with FileLock(out / ".lock"):
        for file in sorted({_file(out, result) for result in results}):
            there = read_results(file)
            new: list[Result] = []
            for result in (r for r in results if _file(out, r) == file):
                same_run = [other for other in there + new if _key(other) == _key(result)]
                if any(other.get("scores") == result.get("scores") for other in same_run):
                    known += 1
                    continue
                if same_run and result["status"] == "ok":
                    result["conflict"] = True
                    conflicts.append(result)
                new.append(result)
            _append(file, new)
            added += len(new)
    return Collected(added, known, unfinished, conflicts)


def run_folders(places: Iterable[Path]) -> Iterator[Path]:
    """Every run folder at or below the places, in order, each once.

    Raises:
        MissingFileError: a place does not exist, or there is no run in it.
    """
    seen: set[Path] = set()
    for place in places:
        folders = sorted(file.parent for file in place.rglob(RECORD_FILE))
        if not folders:
            raise MissingFileError(f"There is no run at or below {place}: no {RECORD_FILE} was found.")
        for folder in folders:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder


def result_of(record: dict[str, Any], *, per_class: bool = False) -> Result:
    """The part of a run's record that tables need; nothing of it tells where on a machine anything lies."""
    data, environment = record["data"], record["environment"]
    return {
        **{key: record[key] for key in _KEPT if key in record},
        "data": {
            "kind": data["kind"],
            "digest": data["digest"],
            "source": {key: value for key, value in data["source"].items() if key != "folders"},
        },
        "config": identifying(record["config"]) | _given_files(record),
        "environment": {
            **{key: environment[key] for key in ("mmcse", "git", "python", "versions", "threads")},
            "processor": environment.get("processor"),  # the first records do not have it
        },
        **({"per_class": record["per_class"]} if per_class and "per_class" in record else {}),
    }


def _given_files(record: dict[str, Any]) -> dict[str, Any]:
    """Digests of files that the user gave to a run, and not an earlier stage of it: other files, other settings."""
    made = {stage["feeds"] for stage in (record["config"].get("stages") or {}).values()}
    given = {key: digest for key, digest in record.get("files", {}).items() if key not in made}
    return {"files": given} if given else {}


def read_results(place: Path) -> list[Result]:
    """The results in one file, or in every file of a folder; none where there is nothing.

    Raises:
        UserError: a line is no result; the message gives file and line.
    """
    if place.is_dir():
        return [result for file in sorted(place.glob("*.jsonl")) for result in read_results(file)]
    try:
        lines = place.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    results = []
    for number, line in enumerate(lines, start=1):
        try:
            results.append(_whole(json.loads(line)))
        except _NOT_WHOLE as error:
            raise UserError(
                f"{place}, line {number} is not a result ({_what(error)}). Restore the file, for example from version "
                "control: its lines are only ever appended."
            ) from error
    return results


def _whole(result: Result) -> Result:
    """The result, if it is all that tables rely on; its file may have been damaged, or come from anywhere."""
    kinds = {"name": str, "identity": str, "seed": int, "status": str, "data": dict, "config": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(result[name], kind)]
    wrong += [f"data.{name}" for name in ("kind", "digest") if not isinstance(result["data"][name], str)]
    table = result["name"].split("/")[0]
    fits = len(table.encode(errors="replace")) <= _LONGEST_NAME
    wrong += ["name"] * (not table.isprintable() or not table.strip(".") or not fits)  # it names a file
    if result["status"] == "ok":
        scores = [score for split in {"test", *result["scores"]} for score in result["scores"][split].values()]
        wrong += ["scores"] * (not all(isinstance(score, float | int) for score in scores))
    if wrong:
        raise ValueError(f"unexpected values of {', '.join(wrong)}")
    _line(result)
    return result


def _what(error: BaseException) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else one_line(error)


def _key(result: Result) -> tuple[Any, ...]:
    """What makes two results those of the same run, ended in the same way."""
    return result["name"], result["identity"], result["seed"], result["data"]["digest"], result["status"]


def _file(out: Path, result: Result) -> Path:
    return out / f"{result['name'].split('/')[0]}.jsonl"


def _append(file: Path, results: list[Result]) -> None:
    if not results:
        return
    before = file.read_bytes() if file.is_file() else b""
    with atomic_write(file) as handle:
        handle.write(before + b"".join(map(_line, results)))


def _line(result: Result) -> bytes:
    return json.dumps(result, ensure_ascii=False, allow_nan=False).encode() + b"\n"
