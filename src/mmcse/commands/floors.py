"""`mmcse floors`: what predictions score that look at no feature."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmcse.commands.shared import Subcommands

if TYPE_CHECKING:
    from mmcse.data.manifest import Kind

Scored = tuple[Mapping[str, dict[str, float]], "Kind", str]
"""Scores by row, what the data are, and where they are from."""


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "floors",
        help="scores that need no features: floors and ceilings",
        description="Score predictions that look at no feature: nothing, the most frequent class, the video's weak "
        "label everywhere, and a bank's pseudo labels. They tell what a parser's scores mean.",
        epilog="example: mmcse floors --annotations LLP/annotations --audio-file AVVP_eval_audio_original.csv",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--annotations", type=Path, metavar="DIR", help="folder with LLP's AVVP_*.csv files")
    source.add_argument("--bank", type=Path, metavar="DIR", help="a feature bank")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="default: test")
    parser.add_argument(
        "--audio-file", help="with --annotations: annotation of audible events (default: AVVP_eval_audio.csv)"
    )
    parser.add_argument(
        "--record", type=Path, metavar="RUNS", help="with --bank: also leave a record per row below RUNS, for `collect`"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores to FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each floor and ceiling."""
    from mmcse.errors import UserError
    from mmcse.evaluation.table import score_rows
    from mmcse.files import write_json

    if arguments.bank is not None and arguments.audio_file is not None:
        raise UserError("--audio-file belongs to --annotations; a bank holds its annotation already.")
    if arguments.record is not None and (arguments.bank is None or arguments.split != "test"):
        raise UserError("--record keeps the test scores of a bank: give --bank, and no other --split.")
    rows, kind, source = _of_bank(arguments) if arguments.annotations is None else _of_annotations(arguments)
    print(score_rows(rows, kind=kind, title=f"{arguments.split} · {source}"))
    if arguments.record:
        _record(rows, arguments)
    if arguments.json:
        write_json(arguments.json, {"split": arguments.split, "source": source, "kind": kind, "rows": rows})
    return 0


def _of_annotations(arguments: argparse.Namespace) -> Scored:
    from mmcse.data.annotations import AUDIO_FILE, read_annotations
    from mmcse.evaluation.floors import reference_rows

    audio_file = arguments.audio_file or AUDIO_FILE
    truth = read_annotations(arguments.annotations, arguments.split, audio_file)
    assert truth.true_audio is not None  # val and test are annotated densely
    assert truth.true_visual is not None
    train = read_annotations(arguments.annotations, "train")
    rows = reference_rows(truth.true_audio, truth.true_visual, truth.weak, train.weak)
    return rows, "real", f"{arguments.annotations} ({audio_file})"


def _of_bank(arguments: argparse.Namespace) -> Scored:
    from mmcse.data import AVVPDataModule
    from mmcse.errors import UserError
    from mmcse.evaluation.floors import reference_rows

    data = AVVPDataModule(arguments.bank)
    arrays = data.bank.split(arguments.split).arrays
    if "true_visual" not in arrays:
        raise UserError(f"{arguments.bank} has no annotation of {arguments.split!r} to score against.")
    true_audio = data.true_audio(arguments.split)
    pseudo = (arrays["pseudo_audio"], arrays["pseudo_visual"]) if "pseudo_audio" in arrays else None
    train_weak = data.bank.split("train").arrays["weak"]
    rows = reference_rows(arrays[true_audio], arrays["true_visual"], arrays["weak"], train_weak, pseudo)
    return rows, data.bank.kind, f"{arguments.bank} ({true_audio})"


def _record(rows: Mapping[str, dict[str, float]], arguments: argparse.Namespace) -> None:
    """A record per row, like those of runs: floors stand in the same tables."""
    from mmcse.data import FeatureBank
    from mmcse.runs.folder import recorded
    from mmcse.runs.identity import run_identity
    from mmcse.runs.record import environment

    bank = FeatureBank.open(arguments.bank)
    identity = run_identity({}, bank.digest)
    for row, scores in rows.items():
        name = f"floors/{row.replace(' ', '_')}"
        target = arguments.record / name / f"{identity}-seed0"
        target.mkdir(parents=True, exist_ok=True)
        data = {"kind": bank.kind, "digest": bank.digest, "source": bank.source}
        record = {"name": name, "identity": identity, "seed": 0, "data": data, "config": {}}
        with recorded(target, record):
            record |= {"environment": environment(), "scores": {"test": scores}}
