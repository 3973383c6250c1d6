"""From results to the paper's tables: which runs fill which cell, and what they say of the paper and of each other.

Results that cannot be compared never meet: every kind of data, every simulated generator and every setting apart from
the experiment's own makes a table of its own. Only tables of real data have the paper's numbers in them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf

from mmcse.configuration import compose_config, experiments
from mmcse.data.manifest import KINDS, Kind
from mmcse.data.simllp.settings import SPLITS, SimLLPSettings
from mmcse.required import required_of
from mmcse.runs.collect import Result
from mmcse.runs.identity import FILES, file_digests, identifying
from mmcse.runs.paper import PaperRow, PaperTable, score
from mmcse.runs.statistics import CONFIDENCE, Summary, holm, summarise, t_test

Verdict = Literal["agrees", "higher", "lower", "not separable", "not run", "needs real LLP features"]

AGREEMENT = 1.0
"""Points: half an interval may be this wide for "agrees"; a wider one would agree with almost anything."""

REQUIRED = object()
"""Stands for the digest of a file that an experiment requires of its user: any will do."""

Unit = tuple[str, int]
"""What two rows are paired by: digest of the data, and seed."""


class Cell(NamedTuple):
    """One score of one row: the paper's, ours, and ours less the reference row's."""

    column: str
    paper: float | None = None
    """As printed; None in tables of data that are not real."""
    ours: Summary | None = None
    p: float | None = None
    """Of ours against the paper's one number."""
    verdict: Verdict | None = None
    """On the paper's number; or why there is nothing of ours."""
    change: Summary | None = None
    """Paired differences from the reference row."""
    change_p: float | None = None
    """Of the differences against 0, corrected (Holm) for the rows of the table."""
    change_verdict: Verdict | None = None
    values: tuple[float, ...] = ()
    """The independent values that `ours` sums up."""
    changes: tuple[float, ...] = ()
    """The independent differences that `change` sums up."""


class Line(NamedTuple):
    """One row: its cells by column, and how many data sets (worlds), seeds and runs they stand on."""

    row: PaperRow
    cells: Mapping[str, Cell]
    worlds: int
    seeds: int
    runs: int


class ResultTable(NamedTuple):
    """A table of the paper, filled by comparable results."""

    paper: PaperTable
    kind: Kind
    data: str
    settings: Mapping[str, Any]
    """What differs from the experiments as they are shipped, and so from the paper's recipe."""
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def result_tables(paper: PaperTable, results: Iterable[Result]) -> list[ResultTable]:
    """All tables that the results make of one.

    Of real data first, which is there even when empty if the paper has numbers for it.
    """
    names = {name for row in paper.rows.values() for name in row.runs}
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result["name"] in names and result["status"] == "ok":
            settings = json.dumps(settings_of(result), sort_keys=True)
            groups[result["data"]["kind"], data_name(result), settings].append(result)
    tables = [
        fill_table(paper, kind, data, json.loads(settings), group)  # type: ignore[arg-type]
        for (kind, data, settings), group in sorted(groups.items(), key=lambda item: _order(item[0]))
    ]
    if paper.has_numbers and not any(table.kind == "real" for table in tables):
        tables.insert(0, fill_table(paper, "real", "LLP", {}, []))
    return tables or [fill_table(paper, "simulated", "SimLLP", {}, [])]


def settings_of(result: Result) -> dict[str, Any]:
    """Where a run's configuration departs from its experiment as it is shipped now, by dotted key.

    A file that the experiment requires of its user is no departure, but where it was not given.
    """
    shipped, here = _shipped(result["name"]), _flat(result["config"])
    followers = {key for key, value in shipped.items() if isinstance(value, str) and value.startswith("${")}
    keys = sorted((shipped.keys() | here.keys()) - followers)
    given = {key for key in keys if shipped.get(key) is REQUIRED and key in here}
    return {key: here.get(key) for key in keys if key not in given and here.get(key) != shipped.get(key)}


@cache
def _shipped(name: str) -> dict[str, Any]:
    """The settings of an experiment, or of a stage of one (EXPERIMENT/STAGE); none of what is neither."""
    experiment, _, stage = (name, "", "") if name in experiments() else name.rpartition("/")
    if experiment not in experiments():
        return {}
    config = compose_config("train", [f"experiment={experiment}"])
    if stage:
        if stage not in (config.stages or {}):
            return {}
        from mmcse.stages import stage_config  # with Lightning, which few tables need

        config = stage_config(config, stage)
    required = required_of(config)
    plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    files = {f"files.{key}": REQUIRED for key in required if key in FILES}
    return _flat(identifying(plain) | _named_files(config, required)) | files


def _named_files(config: DictConfig, required: Mapping[str, str]) -> dict[str, Any]:
    """Digests of the files that an experiment names itself; the rest is not resolved, for it may lack a value."""
    named = OmegaConf.create()
    for key in FILES:
        if key not in required:
            OmegaConf.update(named, key, OmegaConf.select(config, key), force_add=True)
    files = file_digests(OmegaConf.to_container(named))  # type: ignore[arg-type]
    return {"files": files} if files else {}


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {path: node}
    return {key: value for name in node for key, value in _flat(node[name], f"{path}.{name}".lstrip(".")).items()}


def data_name(result: Result) -> str:
    """Data whose results may be averaged: all of LLP, one generator whatever the world, one fixture."""
    kind, source = result["data"]["kind"], result["data"]["source"]
    if kind == "real":
        return "LLP"
    if kind == "simulated":
        usual = SimLLPSettings().describe(world=0)
        sizes = "/".join(str(source.get(split)) for split in SPLITS)
        same = {"world", *SPLITS, *(key for key in source if source[key] == usual.get(key))}
        unusual = [f"{key} {source[key]}" for key in source if key not in same]
        return ", ".join((f"{source.get('generator')}, {sizes} videos", *unusual))
    return f"fixture {result['data']['digest'][:10]}"


def _order(key: tuple[str, str, str]) -> tuple[Any, ...]:
    kind, data, settings = key
    return KINDS.index(kind), data, len(json.loads(settings)), settings  # type: ignore[arg-type]


def fill_table(
    paper: PaperTable, kind: Kind, data: str, settings: Mapping[str, Any], results: Sequence[Result]
) -> ResultTable:
    """One table filled by results that can be compared: all of one kind of data, one `data_name` and `settings`."""
    notes: list[str] = []
    rows = [row for row in paper.rows.values() if kind == "real" or row.runs]
    pools = {row.name: _pool(row, results, notes) for row in rows}
    missing: Verdict = "needs real LLP features" if kind == "real" and not results else "not run"
    columns = {column: _column(paper, column, rows, pools, kind, missing) for column in paper.columns}
    lines = tuple(
        Line(
            row,
            {column: cells[row.name] for column, cells in columns.items()},
            worlds=len({digest for digest, _ in pools[row.name]}),
            seeds=len({seed for _, seed in pools[row.name]}),
            runs=len(pools[row.name]),
        )
        for row in rows
    )
    return ResultTable(paper, kind, data, settings, lines, tuple(dict.fromkeys(notes)))


def _pool(row: PaperRow, results: Sequence[Result], notes: list[str]) -> dict[Unit, Mapping[str, float]]:
    """Test scores of a row's runs, one of each data set and seed: the same run under several names counts once."""
    pool: dict[Unit, Mapping[str, float]] = {}
    files: dict[str, set[str]] = defaultdict(set)
    for result in results:
        if result["name"] not in row.runs:
            continue
        unit = (result["data"]["digest"], result["seed"])
        scores = result["scores"]["test"]
        if pool.setdefault(unit, scores) != scores:
            notes.append(
                f"{result['name']}, seed {unit[1]}, data {unit[0][:10]}: two results of the same run differ; "
                "the first one collected is used."
            )
        for key, digest in result["config"].get("files", {}).items():
            files[key].add(digest)
    notes += [f"Row {row.label!r} mixes {len(found)} files of {key}." for key, found in files.items() if len(found) > 1]
    digests = {digest for digest, _ in pool}
    if len(digests) > 1 and results[0]["data"]["kind"] == "real":
        notes.append(f"Row {row.label!r} mixes {len(digests)} banks of real data.")
    return pool


def _column(
    paper: PaperTable,
    column: str,
    rows: Sequence[PaperRow],
    pools: Mapping[str, Mapping[Unit, Mapping[str, float]]],
    kind: Kind,
    missing: Verdict,
) -> dict[str, Cell]:
    """The cells of one column, by the name of their row; the family within which tests are corrected."""
    values = {name: {unit: score(scores, column) for unit, scores in pool.items()} for name, pool in pools.items()}
    reference = values.get(paper.reference or "", {})
    changes = {
        row.name: _independent({u: v - reference[u] for u, v in values[row.name].items() if u in reference})
        for row in rows
        if paper.reference not in (None, row.name)
    }
    corrected = dict(zip(changes, holm([t_test(change) for change in changes.values()]), strict=True))

    cells = {}
    for row in rows:
        printed = row.values[paper.columns.index(column)] if kind == "real" and row.values else None
        if not values[row.name]:
            cells[row.name] = Cell(column, printed, verdict=missing if row.runs else "not run")
            continue
        independent = _independent(values[row.name])
        ours, p = summarise(independent), None if printed is None else t_test(independent, printed)
        change = summarise(changes[row.name]) if changes.get(row.name) else None
        change_p = corrected.get(row.name)
        cells[row.name] = Cell(
            column,
            printed,
            ours,
            p,
            None if printed is None else _against_paper(ours, printed, p),
            change,
            change_p,
            None if change is None else _direction(change.mean, change_p),
            tuple(independent),
            tuple(changes.get(row.name, ())),
        )
    return cells


def _independent(values: Mapping[Unit, float]) -> list[float]:
    """Values that are independent: of several data sets, each one's mean over its seeds; of a single one, its seeds."""
    by_data: dict[str, list[float]] = defaultdict(list)
    for (digest, _), value in sorted(values.items()):
        by_data[digest].append(value)
    if len(by_data) == 1:
        return next(iter(by_data.values()))
    return [sum(group) / len(group) for group in by_data.values()]


def _against_paper(ours: Summary, printed: float, p: float | None) -> Verdict:
    verdict = _direction(ours.mean - printed, p)
    narrow = ours.low is not None and ours.high is not None and ours.high - ours.low <= 2 * AGREEMENT
    return "agrees" if verdict == "not separable" and narrow else verdict


def _direction(difference: float, p: float | None) -> Verdict:
    if p is None or p >= 1 - CONFIDENCE:
        return "not separable"
    return "higher" if difference > 0 else "lower"
