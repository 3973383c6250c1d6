"""The numbers of the MM-CSE paper, from `experiments/paper.yaml`."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from mmcse.configuration import experiment_folder
from mmcse.errors import UserError
from mmcse.vocabulary import near_miss


class PaperRow(NamedTuple):
    """One row: its label and check marks, its numbers as printed, and the experiments whose runs fill it."""

    name: str
    label: str
    values: tuple[float, ...]
    runs: tuple[str, ...]
    check: tuple[bool, ...]


class PaperTable(NamedTuple):
    """One table: what its columns hold, its rows by name, and the row that an ablation's others are compared with."""

    number: str
    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, PaperRow]
    check: tuple[str, ...]
    reference: str | None

    @property
    def has_runs(self) -> bool:
        """Whether runs can fill any of it (Table 5 is about cost, not about results)."""
        return any(row.runs for row in self.rows.values())


@cache
def paper_tables() -> dict[str, PaperTable]:
    """Every table by its number, in the paper's order."""
    content: Any = OmegaConf.to_container(OmegaConf.load(experiment_folder() / "paper.yaml"))
    return {str(number): _table(str(number), table) for number, table in content["tables"].items()}


def paper_table(number: str) -> PaperTable:
    """One table.

    Raises:
        UserError: the paper has no table of that number.
    """
    tables = paper_tables()
    if number not in tables:
        raise UserError(
            f"The paper has no table {number!r}.{near_miss(number, tables)} It has: {', '.join(tables)} "
            "(6.2 stands for the video-level F1 in the text of that section)."
        )
    return tables[number]


def score(scores: Mapping[str, float], column: str) -> float:
    """The value of a column: a score of the result, or the mean of both levels as in Tables 2 to 4.

    Args:
        scores: of a result, in percent.
        column: a key of it, or "A", "V", "AV", "Type", "Event".
    """
    if column in scores:
        return scores[column]
    return (scores[f"segment/{column}"] + scores[f"event/{column}"]) / 2


def _table(number: str, table: dict[str, Any]) -> PaperTable:
    rows = {
        name: PaperRow(
            name, row["label"], tuple(row["values"]), tuple(row.get("runs", ())), tuple(row.get("check", ()))
        )
        for name, row in table["rows"].items()
    }
    return PaperTable(
        number, table["title"], tuple(table["columns"]), rows, tuple(table.get("check", ())), table.get("reference")
    )
