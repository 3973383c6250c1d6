"""`mmcse collect`: from run folders to the records that tables are made of."""

import argparse
import sys
from pathlib import Path

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "collect",
        help="gather the results of runs",
        description="Append the results of runs to DIR/<table>.jsonl, each once. Sweeps may be partial or copied; what "
        "was collected before stays as it is.",
        epilog="example: mmcse collect runs && mmcse report --table 3",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders with such below")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/results"), metavar="DIR", help="default: experiments/results"
    )
    parser.add_argument("--per-class", action="store_true", help="also keep the scores of every class")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Collect, and say what was new."""
    from mmcse.runs.collect import collect

    done = collect(arguments.runs, arguments.out, per_class=arguments.per_class)
    print(f"{arguments.out}: {done.added} new, {done.known} known, {done.unfinished} not at their end (left out)")
    for result in done.conflicts:
        print(
            f"CONFLICT: {result['name']} ({result['identity']}, seed {result['seed']}) was collected before with other "
            "scores. Both are kept; tables use the first.",
            file=sys.stderr,
        )
    return 1 if done.conflicts else 0
