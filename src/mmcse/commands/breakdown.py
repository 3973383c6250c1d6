"""`mmcse breakdown`: methods by class and by the duration of events."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands, add_override

if TYPE_CHECKING:
    from mmcse.runs.breakdown import Evaluated


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "breakdown",
        help="compare runs by class and by the duration of events",
        description="Evaluate the best checkpoint of every finished run on test, and write a page that compares their "
        "methods by class and by the duration of events.",
        epilog="example: mmcse breakdown runs/baselines --out docs/breakdown.md",
    )
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders with such somewhere below")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page to write, in Markdown")
    add_override(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and write."""
    from mmcse.errors import UserError
    from mmcse.files import atomic_write
    from mmcse.runs.breakdown import breakdown_page
    from mmcse.runs.collect import run_folders
    from mmcse.runs.record import read_record

    records = {folder: read_record(folder) or {} for folder in run_folders(arguments.runs)}
    finished = {folder: r for folder, r in records.items() if r.get("status") == "ok" and r.get("config")}
    if not finished:
        raise UserError("None of these runs is finished; there is nothing to compare.")
    if len({record["data"]["digest"] for record in finished.values()}) > 1:
        raise UserError("These runs are on different data, which cannot be compared. Name runs on the same data.")
    evaluated = [_evaluate(folder, record, arguments.override) for folder, record in finished.items()]
    first = next(iter(finished.values()))
    page = breakdown_page(evaluated, evaluated[0].result["classes"], first["data"]["kind"])
    with atomic_write(arguments.out) as handle:
        handle.write(page.encode())
    print(f"{arguments.out}: {len(evaluated)} runs")
    return 0


def _evaluate(folder: Path, record: dict, overrides: list[str]) -> "Evaluated":
    from mmcse.configuration import compose_config
    from mmcse.evaluate import evaluate
    from mmcse.runs.breakdown import Evaluated

    checkpoint = folder / "checkpoints" / "best.ckpt"
    config = compose_config("eval", [f"checkpoint='{checkpoint}'", "durations=true", *overrides])
    return Evaluated(record["name"], record["seed"], evaluate(config))
