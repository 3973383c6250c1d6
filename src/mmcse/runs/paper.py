"""Tables: those of the MM-CSE paper with their numbers (`experiments/paper.yaml`), and our own (`suite.yaml`)."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from mmcse.configuration import experiment_folder
from mmcse.errors import UserError
from mmcse.vocabulary import near_miss


class PaperRow(NamedTuple):
    """One row: its label and check marks, its numbers as printed (if any), and the experiments that fill it."""

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
    costs: str | None = None
    """The page that has its numbers, where the table is about cost and its columns are no scores."""

    @property
    def heading(self) -> str:
        """Number and title, or the title alone of a table that is not the paper's."""
        return f"Table {self.number}. {self.title}" if self.number[0].isdigit() else self.title

    @property
    def has_runs(self) -> bool:
        """Whether the scores of runs can fill any of it (Table 5 is about cost, not about scores)."""
        return self.costs is None and any(row.runs for row in self.rows.values())

    @property
    def has_numbers(self) -> bool:
        """Whether anything was printed that runs could be held against."""
        return any(row.values for row in self.rows.values())


def paper_tables() -> dict[str, PaperTable]:
    """Every table of the paper by its number, in the paper's order."""
    return _read("paper.yaml")


def all_tables() -> dict[str, PaperTable]:
    """Every table there is: the paper's by number, then the suite's own by name."""
    return paper_tables() | _read("suite.yaml")


def paper_table(number: str) -> PaperTable:
    """One table, by its number in the paper or its name in this suite.

    Raises:
        UserError: there is no such table.
    """
    tables = all_tables()
    if number not in tables:
        raise UserError(
            f"The paper has no table {number!r}.{near_miss(number, tables)} There are: {', '.join(tables)} "
            "(6.2 stands for the video-level F1 in the text of that section)."
        )
    return tables[number]


def table_of_scores(number: str) -> PaperTable:
    """One table that the scores of runs fill.

    Raises:
        UserError: there is no such table, or it is about cost.
    """
    table = paper_table(number)
    if table.costs:
        raise UserError(
            f"Table {number} is about cost, which no score of a run says: {table.costs} has its numbers beside ours, "
            "and `mmcse efficiency` counts and measures them anew."
        )
    return table


def score(scores: Mapping[str, float], column: str) -> float:
    """The value of a column: a score of the result, or the mean of both levels as in Tables 2 to 4.

    Args:
        scores: of a result, in percent.
        column: a key of it, or "A", "V", "AV", "Type", "Event".
    """
    if column in scores:
        return scores[column]
    return (scores[f"segment/{column}"] + scores[f"event/{column}"]) / 2


@cache
def _read(file: str) -> dict[str, PaperTable]:
    content: Any = OmegaConf.to_container(OmegaConf.load(experiment_folder() / file))
    return {str(number): _table(str(number), table) for number, table in content["tables"].items()}


def _table(number: str, table: dict[str, Any]) -> PaperTable:
    rows = {
        name: PaperRow(
            name, row["label"], tuple(row.get("values", ())), tuple(row.get("runs", ())), tuple(row.get("check", ()))
        )
        for name, row in table["rows"].items()
    }
    return PaperTable(
        number,
        table["title"],
        tuple(table["columns"]),
        rows,
        tuple(table.get("check", ())),
        table.get("reference"),
        table.get("costs"),
    )
