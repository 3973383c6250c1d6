"""`mmcse figures`: what a run has learnt, and what a table says, as pictures."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands, add_override

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "figures",
        help="draw a run, or the tables of collected results",
        description="Draw a run: training curves, scores and confusion of classes, calibration, thresholds, "
        "co-occurrence maps, and the timelines of some videos. Or draw tables of collected results as bars with "
        "intervals and single runs. Figures of data that are not real say so.",
        epilog="examples: mmcse figures RUN --out figures --baseline OTHER_RUN --video VIDEO_ID; "
        "mmcse figures --table 3 --out figures --format pdf",
    )
    parser.add_argument(
        "run_or_checkpoint",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="a run's folder, a checkpoint, or a folder that `mmcse import` wrote",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")
    parser.add_argument("--format", choices=FORMATS, default="svg", help="default: svg")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="default: test")
    parser.add_argument("--video", action="append", default=[], metavar="ID", help="a video to draw; may be repeated")
    parser.add_argument("--baseline", type=Path, metavar="RUN", help="another run, beside the first in the timelines")
    parser.add_argument("--features", action="store_true", help="also a t-SNE of decoupled features (about a minute)")
    add_override(parser)
    parser.add_argument("--table", action="append", metavar="N", help="draw a table of `mmcse report`; may be repeated")
    parser.add_argument(
        "--results", type=Path, default=Path("experiments/results"), metavar="DIR", help="default: experiments/results"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw, and name every file as it is written."""
    from mmcse.errors import UserError
    from mmcse.figures import save_figure

    if arguments.run_or_checkpoint is None and not arguments.table:
        raise UserError("There is nothing to draw: name a run's folder, or a table with --table.")
    for name, figure in _figures(arguments):
        file = arguments.out / f"{name.replace('/', '_')}.{arguments.format}"
        save_figure(figure, file)
        print(file, flush=True)
    return 0


def _figures(arguments: argparse.Namespace) -> "Iterator[tuple[str, Figure]]":
    if arguments.run_or_checkpoint is not None:
        yield from _of_run(arguments)
    for number in arguments.table or ():
        yield from _of_table(number, arguments.results)


def _of_run(arguments: argparse.Namespace) -> "Iterator[tuple[str, Figure]]":
    from mmcse.callbacks.history import read_history
    from mmcse.figures import run_figures
    from mmcse.runs.outputs import parse_split
    from mmcse.runs.record import read_record

    place, split, overrides = arguments.run_or_checkpoint, arguments.split, arguments.override
    baseline = parse_split(_checkpoint(arguments.baseline), split, overrides) if arguments.baseline else None
    record = read_record(place) if place.is_dir() else None
    yield from run_figures(
        parse_split(_checkpoint(place), split, overrides, features=arguments.features),
        read_history(place / "history.csv") if record else None,
        best_epoch=(record or {}).get("selection", {}).get("epoch"),
        videos=arguments.video,
        baseline=baseline,
    )


def _of_table(number: str, results: Path) -> "Iterator[tuple[str, Figure]]":
    from mmcse.errors import UserError
    from mmcse.figures import table_figure
    from mmcse.runs.collect import read_results
    from mmcse.runs.paper import table_of_scores
    from mmcse.runs.tables import result_tables

    tables = [t for t in result_tables(table_of_scores(number), read_results(results)) if any(x.runs for x in t.lines)]
    if not tables:
        raise UserError(f"{results} holds no result of table {number}. Train its rows and `mmcse collect` them first.")
    for index, table in enumerate(tables, start=1):  # those that cannot be compared are apart
        yield f"table-{number}-{table.kind}" + (f"-{index}" if len(tables) > 1 else ""), table_figure(table)


def _checkpoint(place: Path) -> Path:
    """The checkpoint of a run's folder; anything else is one itself."""
    from mmcse.runs.record import RECORD_FILE

    return place / "checkpoints" / "best.ckpt" if (place / RECORD_FILE).is_file() else place
