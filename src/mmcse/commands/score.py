"""`mmcse score`: any method's predictions against the annotations."""

import argparse
from pathlib import Path

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "score",
        help="score any method's predictions",
        description="Score predictions of any method against LLP's annotations, by LLP's protocol.",
        epilog="example: mmcse score predictions.npz --annotations LLP/annotations --split test --json scores.json",
    )
    parser.add_argument(
        "predictions", type=Path, help=".npz with arrays ids (N), audio and visual (N,T,K): booleans or probabilities"
    )
    parser.add_argument("--annotations", type=Path, required=True, help="folder with LLP's AVVP_*.csv files")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="default: test")
    parser.add_argument("--audio-file", help="annotation of audible events (default: AVVP_eval_audio.csv)")
    parser.add_argument("--threshold", type=float, default=0.5, help="least probability of a decision (default: 0.5)")
    parser.add_argument(
        "--kind",
        choices=("real", "simulated", "fixture"),
        default="real",
        help="what the features behind the predictions are; the table says it (default: real)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of scores."""
    from mmcse.data.annotations import AUDIO_FILE
    from mmcse.evaluation import score_predictions, score_table
    from mmcse.files import write_json

    scores = score_predictions(
        arguments.predictions,
        arguments.annotations,
        arguments.split,
        arguments.audio_file or AUDIO_FILE,
        threshold=arguments.threshold,
    )
    print(score_table(scores, kind=arguments.kind, title=f"{arguments.split} · {arguments.predictions}"))
    if arguments.json:
        write_json(arguments.json, scores)
    return 0
