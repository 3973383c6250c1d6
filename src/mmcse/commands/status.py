"""`mmcse status`: how far a sweep is, seen from elsewhere."""

import argparse
from pathlib import Path

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "status",
        help="show how far a sweep is",
        description="Show the table of a sweep, running or not: the Avg of what is done, the time of what is running "
        "(>), a dot for what waits.",
        epilog="example: watch mmcse status",
    )
    parser.add_argument(
        "place",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="FOLDER",
        help="a sweep's folder, or one with sweeps below, of which the latest is shown (default: runs)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table; exit 1 where a job has failed."""
    from mmcse.errors import MissingFileError
    from mmcse.runs.sweep import is_under_way
    from mmcse.runs.sweep_table import PLAN_FILE, read_sweep, sweep_state, sweep_table

    plans = sorted(arguments.place.rglob(PLAN_FILE), key=lambda plan: plan.stat().st_mtime)
    if not plans:
        raise MissingFileError(f"There is no sweep at or below {arguments.place}: no {PLAN_FILE} was found.")
    folder = plans[-1].parent
    sweep, alive = read_sweep(folder), is_under_way(folder)
    print("\n".join((str(folder), *sweep_table(sweep, alive=alive), f"  {sweep_state(sweep, alive=alive)}")))
    return 1 if sweep.of_state("failed") else 0
