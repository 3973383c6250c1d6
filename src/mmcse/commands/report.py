"""`mmcse report`: the paper's tables, filled from the records; or a page to look at runs in a browser."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands, add_override

if TYPE_CHECKING:
    from mmcse.pages.drawings import Drawing
    from mmcse.runs.outputs import SplitOutputs
    from mmcse.runs.reported import ReportedRun
    from mmcse.runs.tables import ResultTable

FORMATS = ("text", "markdown", "latex", "csv")
SHOWN = 4
"""Runs of a sweep whose parsing of every test video is put into a page, where nothing else is said."""


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "report",
        help="render the paper's tables from collected results, or a web page of runs",
        description="Render the paper's tables from collected results: mean and spread over runs, intervals, "
        "differences from the paper where data are real, and from the full model for ablations. With --html, make one "
        "web page of a run or a sweep instead, which needs no network: scores, comparisons, figures, and the parsing "
        "of every test video to look at.",
        epilog="examples: mmcse report --table 3 --format latex --out table3.tex; "
        "mmcse report --html report.html runs/table3",
    )
    parser.add_argument(
        "--table",
        action="append",
        metavar="N",
        help="1 to 4, 6 to 10, 6.2, baselines or precision (default: all of them; 5 is docs/efficiency.md)",
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--results", type=Path, default=Path("experiments/results"), metavar="DIR", help="default: experiments/results"
    )
    parser.add_argument(
        "--reproduction", type=Path, metavar="FILE", help="write the page on what was reproduced instead of tables"
    )
    parser.add_argument("--model-zoo", type=Path, metavar="FILE", help="write the page on the suite's methods instead")
    parser.add_argument(
        "--methods", type=Path, metavar="FILE", help="write the page that compares them on simulated data instead"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where FILE differs from what would be written"
    )
    page = parser.add_argument_group("a web page of runs")
    page.add_argument("runs", type=Path, nargs="*", help="run folders, or folders with such somewhere below")
    page.add_argument("--html", type=Path, metavar="FILE", help="the page to write")
    page.add_argument(
        "--reference", metavar="ROW", help="row (a run's name) that the others are compared with, in paired runs"
    )
    page.add_argument(
        "--videos", type=int, default=SHOWN, metavar="N",
        help=f"parse the test videos with N runs at most, the best on validation; 0 for none (default: {SHOWN})",
    )  # fmt: skip
    add_override(page)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Render; print, write or compare."""
    from mmcse.errors import UserError

    if arguments.html:
        return _write_page(arguments)
    if arguments.runs or arguments.override:
        raise UserError(
            "Runs (and --override) belong to --html FILE, which makes a page of them. Tables are made of collected "
            "results (--results); `mmcse collect RUNS` collects them."
        )
    text, file = _tables(arguments)
    if arguments.check:
        if file is None:
            raise UserError("--check compares a file: give it with --out, --reproduction, --model-zoo or --methods.")
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            return 0
        print(f"{file} is not what the results say; write it anew without --check.", file=sys.stderr)
        return 1
    if file is None:
        print(text, end="")
    else:
        _write(file, text)
    return 0


def _tables(arguments: argparse.Namespace) -> tuple[str, Path | None]:
    """Tables, or the page that was asked for instead; and the file they are for."""
    from mmcse.runs.collect import read_results
    from mmcse.runs.methods import methods_page
    from mmcse.runs.paper import all_tables, table_of_scores
    from mmcse.runs.render import FORMATS
    from mmcse.runs.reproduction import reproduction
    from mmcse.runs.tables import result_tables
    from mmcse.runs.zoo import model_zoo

    if arguments.model_zoo:
        return model_zoo(), arguments.model_zoo
    results = read_results(arguments.results)
    if arguments.reproduction:
        return reproduction(results), arguments.reproduction
    if arguments.methods:
        return methods_page(results), arguments.methods
    chosen = [table_of_scores(number) for number in arguments.table or ()]
    chosen = chosen or [table for table in all_tables().values() if table.has_runs]
    tables = [filled for table in chosen for filled in result_tables(table, results)]
    return FORMATS[arguments.format](tables), arguments.out


def _write_page(arguments: argparse.Namespace) -> int:
    from mmcse.errors import UserError
    from mmcse.pages.report import report_page, report_tables
    from mmcse.runs.reported import read_runs, runs_to_parse

    others = ("table", "out", "reproduction", "model_zoo", "methods", "check")
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(arguments, name)]:
        raise UserError(f"--html makes a page of runs; it does not go with {', '.join(given)}.")
    if not arguments.runs:
        raise UserError("Name the runs of the page: mmcse report --html FILE RUN_FOLDER ...")
    if arguments.videos < 0:
        raise UserError(f"--videos is {arguments.videos}; expected a number of runs, 0 or more.")
    runs = read_runs(arguments.runs)
    tables = report_tables(runs, arguments.reference)
    notes: list[str] = []
    chosen = runs_to_parse(runs, arguments.videos, arguments.reference)
    if arguments.videos and not chosen:
        notes.append("No run has a checkpoint, so the test videos could not be parsed.")
    outputs = _parse(chosen, arguments.override, notes)
    drawings = _draw(runs, tables, outputs, notes)
    page = report_page(runs, tables, outputs, drawings, notes)
    _write(arguments.html, page)
    for note in notes:
        print(f"mmcse: {note}", file=sys.stderr)
    print(f"{arguments.html}: {len(runs)} run{'s' * (len(runs) > 1)}, {len(page.encode()) / 1e6:.1f} MB")
    return 0


def _parse(chosen: "list[ReportedRun]", overrides: list[str], notes: list[str]) -> "dict[str, SplitOutputs]":
    """What runs say about the test videos; what cannot be had is noted, and the page made without it."""
    from mmcse.errors import UserError
    from mmcse.pages.videos import same_videos
    from mmcse.progress import progress_bar
    from mmcse.runs.outputs import parse_split

    outputs = {}
    for run in progress_bar(chosen, total=len(chosen), description="parsing test videos", unit="runs"):
        try:
            output = parse_split(run.checkpoint, overrides=overrides)
        except UserError as error:
            notes.append(f"The test videos could not be parsed by {run.name}: {error}")
            continue
        if all(same_videos(output, other) for other in outputs.values()):
            outputs[run.name] = output
        else:  # as with another choice of data.audio_truth
            notes.append(f"{run.name} is held against another annotation; its videos are not shown beside the others.")
    return outputs


def _draw(
    runs: "list[ReportedRun]", tables: "list[ResultTable]", outputs: "dict[str, SplitOutputs]", notes: list[str]
) -> "list[Drawing]":
    """All figures of one run; of several, their tables as bars, and how those that parse the videos were trained."""
    from mmcse.errors import UserError
    from mmcse.pages.drawings import run_drawings, table_drawings

    try:
        if len(runs) == 1:
            return run_drawings(runs[0], outputs.get(runs[0].name))
        trained = [run for run in runs if run.name in outputs]
        return [*table_drawings(tables), *(drawing for run in trained for drawing in run_drawings(run, None))]
    except UserError as error:
        notes.append(f"There are no figures: {error}")
        return []


def _write(file: Path, text: str) -> None:
    from mmcse.files import atomic_write

    with atomic_write(file) as handle:
        handle.write(text.encode())
