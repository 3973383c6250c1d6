"""A table of any runs, whether the paper has one of them or not: a row for each way of training that was tried."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from mmcse.configuration import experiments
from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.evaluation.fscores import SCORE_KEYS
from mmcse.runs.collect import Result
from mmcse.runs.paper import PaperRow, PaperTable
from mmcse.runs.tables import ResultTable, data_name, fill_table, settings_of
from mmcse.vocabulary import near_miss

COLUMNS = (*SCORE_KEYS, "Avg")


def own_tables(results: Iterable[Result], reference: str | None = None) -> list[ResultTable]:
    """Tables of the finished runs among results, one for each data set (all worlds of a generator are one).

    Args:
        results: of any experiments.
        reference: label of the row that the others are compared with, in paired runs.

    Raises:
        UserError: no row has the label of the reference.
    """
    groups: dict[tuple[Kind, str], list[Result]] = defaultdict(list)
    for result in results:
        if result["status"] == "ok":
            groups[result["data"]["kind"], data_name(result)].append(result)
    tables = [_own_table(kind, data, group, reference) for (kind, data), group in sorted(groups.items())]
    labels = [label for table in tables for label in table.paper.rows]
    if reference is not None and reference not in labels:
        raise UserError(
            f"No run stands in a row {reference!r}.{near_miss(reference, labels)} There are: {', '.join(labels)}."
        )
    return tables


def row_labels(results: Sequence[Result]) -> list[str]:
    """The row each result stands in: its name, and the settings that tell it from other results.

    These are the settings in which results of one name differ, and those in which some results, but not all, depart
    from an experiment as it is shipped.
    """
    settings = [settings_of(result) for result in results]
    common = common_settings(results)
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for result, here in zip(results, settings, strict=True):
        for key in {key for other in settings for key in other}:
            values[result["name"], key].add(json.dumps(here.get(key), sort_keys=True))

    def tells(name: str, key: str) -> bool:
        return len(values[name, key]) > 1 or (name in experiments() and key not in common)

    return [
        " ".join((r["name"], *(f"{key}={value}" for key, value in here.items() if tells(r["name"], key))))
        for r, here in zip(results, settings, strict=True)
    ]


def common_settings(results: Sequence[Result]) -> dict[str, Any]:
    """The settings in which all results depart, in the same way, from their experiments as these are shipped."""
    if not results or any(result["name"] not in experiments() for result in results):
        return {}
    first, *others = (settings_of(result) for result in results)
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def _own_table(kind: Kind, data: str, results: Sequence[Result], reference: str | None) -> ResultTable:
    labels = row_labels(results)
    rows = {label: PaperRow(label, label, (), (label,), ()) for label in sorted(set(labels))}
    table = PaperTable("own", "All rows", COLUMNS, rows, (), reference if reference in rows else None)
    named = [{**result, "name": label} for result, label in zip(results, labels, strict=True)]
    return fill_table(table, kind, data, common_settings(results), named)
