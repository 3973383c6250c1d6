"""The report as a web page: what some runs are, what they scored, and what they say about every video."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from mmcse.evaluation.fscores import LEVELS, SCORES, STREAMS, per_class_scores
from mmcse.pages import render_page
from mmcse.pages.drawings import Drawing
from mmcse.pages.videos import decisions, video_data
from mmcse.runs.collect import result_of
from mmcse.runs.identity import identifying
from mmcse.runs.outputs import SplitOutputs
from mmcse.runs.own_table import own_tables
from mmcse.runs.paper import all_tables
from mmcse.runs.render import Grid, compared_column, comparison_grid, describe_settings, score_grid
from mmcse.runs.reported import ReportedRun
from mmcse.runs.tables import ResultTable, data_name, result_tables
from mmcse.vocabulary import display_name

SPLITS = {"test": "test", "val": "validation, chosen epoch"}
METHOD = (
    "Means are over independent values: seeds where there is one data set, else data sets. Intervals and tests are "
    "Student's t; a difference between rows is taken in pairs of the same data and seed, and its p is corrected (Holm) "
    "for the rows of the table."
)

Facts = list[tuple[str, str]]


class Table(NamedTuple):
    """What the template shows as a table: cells with the head first, and words around them."""

    caption: str
    grid: Grid
    title: str = ""
    notes: Sequence[str] = ()
    folded: str = ""
    """What opens it; empty for a table that is open from the start."""

    @property
    def head(self) -> list[str]:
        """The heads of the columns."""
        return self.grid[0]

    @property
    def rows(self) -> Grid:
        """All rows but the head; the first cell names the row."""
        return self.grid[1:]


def report_tables(runs: Sequence[ReportedRun], reference: str | None = None) -> list[ResultTable]:
    """The paper's tables as far as these runs fill them, and a table of all rows where those have no place for some.

    Args:
        runs: all on data of one kind.
        reference: label of the row that the others are compared with in the table of all rows.

    Raises:
        UserError: no row has the label of the reference.
    """
    results = [result_of(dict(run.record)) for run in runs]
    filled = [table for one in all_tables().values() if one.has_runs for table in result_tables(one, results)]
    tables = [table for table in filled if _worth_showing(table)]
    placed = {name for table in tables for line in table.lines for name in line.row.runs}
    if len(runs) > 1 and (reference is not None or not placed.issuperset(run.record["name"] for run in runs)):
        tables += own_tables(results, reference)
    return tables


def report_page(
    runs: Sequence[ReportedRun],
    tables: Sequence[ResultTable],
    outputs: Mapping[str, SplitOutputs],
    drawings: Sequence[Drawing] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page; the same arguments give the same bytes.

    Args:
        runs: at least one, all on data of one kind.
        tables: as `report_tables` fills them.
        outputs: what runs say about the test videos, by the name of the run; all on the same videos, possibly none.
        drawings: figures to show.
        notes: what the reader has to know about what is not on the page.
    """
    single = len(runs) == 1
    shown = [part for table in tables for part in _of_table(table)]
    if single:
        shown = [*_of_splits(runs[0]), *shown, *map(_by_class, outputs.values())]
    title = runs[0].name if single else f"{len(runs)} runs"
    failed = [f"{run.name} failed: {run.record.get('error', '')}" for run in runs if run.record["status"] == "failed"]
    return render_page(
        "report.html",
        title=title,
        kind=runs[0].record["data"]["kind"],
        identity=_of_run(runs[0]) if single else _of_runs(runs),
        problems=[*notes, *failed],
        highlights=_highlights(runs[0].record) if single else [],
        method=METHOD if tables else "",
        tables=shown,
        videos=video_data(outputs) if outputs else None,
        figures=drawings,
        runs=None if single else _list_of(runs),
        configurations=_configurations(runs),
    )


def _of_run(run: ReportedRun) -> Facts:
    record = run.record
    selection, parameters = record.get("selection"), record.get("parameters")
    facts = [
        ("Data", _data(record)),
        ("Status", record["status"]),
        ("Identity", record["identity"]),
        ("Commit", _commit(record)),
        ("Version", f"mmcse {record['environment']['mmcse']}"),
        ("Started", _time(record["started"])),
        ("Took", _duration(record)),
        ("On", ", ".join(record[key] for key in ("device", "precision") if key in record)),
        ("Chosen epoch", f"{selection['epoch']}, by {selection['rule']}" if selection else ""),
        ("Parameters", f"{parameters['inference']:,}, in training {sum(parameters.values()):,}" if parameters else ""),
        ("Folder", str(run.folder)),
    ]
    return [(name, value) for name, value in facts if value]


def _of_runs(runs: Sequence[ReportedRun]) -> Facts:
    records = [run.record for run in runs]
    statuses = [record["status"] for record in records]
    counted = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)]
    started = sorted(_time(record["started"]) for record in records)
    facts = [
        ("Data", _distinct(_data(record) for record in records)),
        ("Runs", ", ".join(counted)),
        ("Commit", _distinct(_commit(record) for record in records)),
        ("Version", _distinct(f"mmcse {record['environment']['mmcse']}" for record in records)),
        ("First started", started[0]),
        ("Last started", started[-1]),
    ]
    return [(name, value) for name, value in facts if value]


def _highlights(record: Mapping[str, Any]) -> Facts:
    scores = record.get("scores", {}).get("test", {})
    names = {"Avg": "Avg, the mean of the ten", "video/F1": "Video-level F1", "video/F1_macro": "Video-level F1, macro"}
    return [(words, f"{scores[key]:.2f}") for key, words in names.items() if key in scores]


def _of_splits(run: ReportedRun) -> list[Table]:
    """The ten scores of one run, for each split."""
    splits = run.record.get("scores", {})
    rows = [
        [f"{SPLITS[split]}, {level} level", *(f"{splits[split][f'{level}/{score}']:.2f}" for score in SCORES)]
        for split in SPLITS
        if split in splits
        for level in LEVELS
    ]
    return [Table("F-scores in percent, averaged over videos", [["split", *SCORES], *rows])] if rows else []


def _worth_showing(table: ResultTable) -> bool:
    """Whether there is something to compare: rows with each other, or with the paper."""
    filled = sum(line.runs > 0 for line in table.lines)
    return filled > 1 or (filled == 1 and any(cell.paper for line in table.lines for cell in line.cells.values()))


def _of_table(table: ResultTable) -> list[Table]:
    settings = f" Differs from the experiments as shipped in: {describe_settings(table)}." if table.settings else ""
    scores = Table(
        f"Mean ± standard deviation in percent. {table.data}.{settings}",
        _named_rows(score_grid(table)),
        table.paper.heading,
        table.notes,
    )
    return [scores, Table(f"{compared_column(table)}, compared", _named_rows(comparison_grid(table)))]


def _named_rows(grid: Grid) -> Grid:
    """The grid with a name in every head and every row, for those who hear one cell at a time."""
    named = [[head or "whose" for head in grid[0]]]
    for first, *others in grid[1:]:
        named.append([first or named[-1][0], *others])
    return named


def _by_class(output: SplitOutputs) -> Table:
    scores = per_class_scores(*decisions(output))
    keys = [f"{level}/{stream}" for level in LEVELS for stream in STREAMS]
    audible, visible = output.true.sum(axis=(0, 1))
    rows = [
        [name, *(f"{scores[key]['F'][k]:.1f}" for key in keys), str(audible[k]), str(visible[k])]
        for k, name in enumerate([display_name(name) for name in output.classes])
    ]
    caption = "F-score of each class on test, counted over all videos together (nan: neither there nor predicted)"
    head = ["class", *keys, "audible segments", "visible segments"]
    return Table(caption, [head, *rows], folded="Scores of each class")


def _list_of(runs: Sequence[ReportedRun]) -> Table:
    head = ["run", "status", "Avg on test", "chosen epoch", "identity", "started", "took", "folder"]
    rows = [
        [
            run.name,
            record["status"],
            f"{record['scores']['test']['Avg']:.2f}" if "test" in record.get("scores", {}) else "",
            str(record.get("selection", {}).get("epoch", "")),
            record["identity"],
            _time(record["started"]),
            _duration(record),
            str(run.folder),
        ]
        for run in runs
        for record in (run.record,)
    ]
    return Table("Every run, and where it lies", [head, *rows])


def _configurations(runs: Sequence[ReportedRun]) -> list[tuple[str, str]]:
    """One configuration of each row, in YAML."""
    first = {run.label: run.record["config"] for run in reversed(runs)}
    return [(label, OmegaConf.to_yaml(OmegaConf.create(identifying(first[label])))) for label in sorted(first)]


def _data(record: Mapping[str, Any]) -> str:
    return data_name({"data": record["data"]})


def _commit(record: Mapping[str, Any]) -> str:
    git = record["environment"]["git"]
    return f"{git['commit'][:10]}{', changed since' if git['dirty'] else ''}" if git else ""


def _time(text: str) -> str:
    return text.replace("T", " ").replace("+00:00", " UTC")


def _duration(record: Mapping[str, Any]) -> str:
    if "total" not in record.get("seconds", {}):
        return ""
    seconds = round(record["seconds"]["total"])
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(value for value in dict.fromkeys(values) if value)
