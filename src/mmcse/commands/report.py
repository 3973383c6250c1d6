"""`mmcse report`: the paper's tables, filled from the records."""

import argparse
import sys
from pathlib import Path

from mmcse.commands.shared import Subcommands

FORMATS = ("text", "markdown", "latex", "csv")


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "report",
        help="render the paper's tables from collected results",
        description="Render the paper's tables from collected results: mean and spread over runs, intervals, "
        "differences from the paper where data are real, and from the full model for ablations.",
        epilog="example: mmcse report --table 3 --format latex --out table3.tex",
    )
    parser.add_argument(
        "--table", action="append", metavar="N", help="1 to 10, 6.2, or baselines (default: all that runs fill)"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--results", type=Path, default=Path("experiments/results"), metavar="DIR", help="default: experiments/results"
    )
    parser.add_argument(
        "--reproduction", type=Path, metavar="FILE", help="write the page on what was reproduced instead of tables"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where FILE differs from what would be written"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Render; print, write or compare."""
    from mmcse.errors import UserError
    from mmcse.files import atomic_write
    from mmcse.runs.collect import read_results
    from mmcse.runs.paper import all_tables, paper_table
    from mmcse.runs.render import FORMATS
    from mmcse.runs.reproduction import reproduction
    from mmcse.runs.tables import result_tables

    results = read_results(arguments.results)
    if arguments.reproduction:
        text, file = reproduction(results), arguments.reproduction
    else:
        chosen = [paper_table(number) for number in arguments.table or ()]
        if without := [table.number for table in chosen if not table.has_runs]:
            raise UserError(f"No runs fill Table {without[0]}: it is about cost. See `mmcse efficiency`.")
        chosen = chosen or [table for table in all_tables().values() if table.has_runs]
        tables = [filled for table in chosen for filled in result_tables(table, results)]
        text, file = FORMATS[arguments.format](tables), arguments.out

    if arguments.check:
        if file is None:
            raise UserError("--check compares a file: give it with --out or --reproduction.")
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            return 0
        print(f"{file} is not what the results say; write it anew without --check.", file=sys.stderr)
        return 1
    if file is None:
        print(text, end="")
    else:
        with atomic_write(file) as handle:
            handle.write(text.encode())
    return 0
