"""The runs of a report: read from their folders, with the row each stands in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcse.errors import UserError
from mmcse.runs.collect import result_of, run_folders
from mmcse.runs.own_table import row_labels
from mmcse.runs.record import RECORD_FILE, read_record


@dataclass(frozen=True)
class ReportedRun:
    """A run: its folder, its record, and the row of a table that it stands in."""

    folder: Path
    record: Mapping[str, Any]
    label: str

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.label}, seed {self.record['seed']}"

    @property
    def checkpoint(self) -> Path:
        """Its best epoch; a run that was not trained, or not to its end, may have none."""
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def history(self) -> Path:
        """Every loss and score of every epoch; a run that was not trained has none."""
        return self.folder / "history.csv"


def read_runs(places: Iterable[Path]) -> list[ReportedRun]:
    """The runs at or below the places, in the order of rows and seeds.

    Raises:
        UserError: there is no run, a record is damaged, or the runs are on data of different kinds.
    """
    records = {folder: _whole(folder) for folder in run_folders(places)}
    kinds = {record["data"]["kind"]: folder for folder, record in records.items()}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({folder})" for kind, folder in sorted(kinds.items()))
        raise UserError(f"These runs are on data of different kinds: {found}. A report is about one; name runs of one.")
    labels = row_labels([result_of(record) for record in records.values()])
    runs = [ReportedRun(folder, record, label) for (folder, record), label in zip(records.items(), labels, strict=True)]
    return sorted(runs, key=lambda run: (run.label, run.record["seed"], str(run.folder)))


def _whole(folder: Path) -> dict[str, Any]:
    """The record of a run, if it has what a report relies on."""
    record = read_record(folder) or {}
    try:
        result_of(record)
        _ = record["status"], record["started"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / RECORD_FILE} is not a whole record of a run (missing or damaged: {error}). Move it away."
        ) from error
    return record


def runs_to_parse(runs: Sequence[ReportedRun], limit: int, reference: str | None = None) -> list[ReportedRun]:
    """The runs whose view of single videos is worth showing: one of each row, all on the same data.

    Of each row it is the run of the lowest seed. Where there are more rows than the limit, those with the best Avg on
    validation are kept, and the reference.

    Args:
        runs: in the order of `read_runs`.
        limit: how many at most.
        reference: label of the row that the others are compared with.
    """
    trained = [run for run in runs if run.record["status"] == "ok" and run.checkpoint.is_file()]
    rows: dict[str, ReportedRun] = {}
    for run in trained:
        if run.record["data"]["digest"] == trained[0].record["data"]["digest"]:
            rows.setdefault(run.label, run)
    best = sorted(rows.values(), key=lambda run: (run.label != reference, -run.record["scores"]["val"]["Avg"]))
    return best[:limit]
