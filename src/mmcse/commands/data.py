"""`mmcse data`: download, simulate, prepare and check what networks are trained on."""

import argparse
from pathlib import Path

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define the command and its own commands."""
    data = commands.add_parser(
        "data",
        help="download, simulate, prepare or check features",
        description="Download, simulate, prepare or check features.",
    )
    actions = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_prepare(actions)
    _add_check(actions)
    _add_simulate(actions)
    _add_download(actions)


def _add_prepare(actions: Subcommands) -> None:
    parser = actions.add_parser(
        "prepare",
        help="pack LLP's feature files into a bank",
        description="Pack a folder of feature files, one .npy per video and stream, into a memory-mapped bank. "
        "An interrupted run goes on where it stopped.",
        epilog="example: mmcse data prepare LLP/features --layout valor --annotations LLP/annotations --out data/llp",
    )
    parser.add_argument("features", type=Path, help="folder with the layout's folders in it")
    _add_layout(parser, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="BANK", help="folder of the bank")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="default: float32")
    parser.add_argument(
        "--tokens",
        choices=("segments", "stored"),
        default="segments",
        help="what is kept of a stream: a vector per segment, or all the vectors of its files (default: segments)",
    )
    parser.add_argument("--skip-missing", action="store_true", help="leave out videos without all of their files")
    parser.add_argument(
        "--kind", choices=("real", "simulated", "fixture"), default="real", help="what the features are (default: real)"
    )
    parser.add_argument("--splits", nargs="+", choices=("train", "val", "test"), default=("train", "val", "test"))
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace) -> int:
    from mmcse.data import prepare_bank

    bank = prepare_bank(
        arguments.features,
        arguments.annotations,
        arguments.out,
        layout=arguments.layout,
        dtype=arguments.dtype,
        skip_missing=arguments.skip_missing,
        kind=arguments.kind,
        splits=tuple(arguments.splits),
        num_segments=arguments.window,
        classes=_classes(arguments),
        tokens=arguments.tokens,
    )
    counts = ", ".join(f"{len(bank.split(name))} {name}" for name in bank.splits)
    skipped = sum(entry.skipped for entry in bank.manifest.splits.values())
    print(f"{bank.folder}: {counts} videos" + (f", {skipped} left out for missing files" if skipped else ""))
    print(f"train on it: mmcse train data=bank data.bank={bank.folder}")
    return 0


def _add_check(actions: Subcommands) -> None:
    parser = actions.add_parser(
        "check",
        help="list what is missing or damaged",
        description="Check a bank, or a folder of feature files (with --layout and --annotations): missing, truncated, "
        "misshapen, non-finite and extra files, stream by stream. Exit status 1 where something is wrong.",
    )
    parser.add_argument("folder", type=Path, help="a bank, or a folder of feature files")
    _add_layout(parser, required=False)
    parser.add_argument("--list", type=Path, metavar="FILE", help="write every finding to FILE, one a line")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    from mmcse.data import check_bank, check_layout
    from mmcse.errors import UserError
    from mmcse.files import atomic_write

    if (arguments.layout is None) != (arguments.annotations is None):
        raise UserError(
            "A folder of feature files is checked with both --layout and --annotations, a bank with neither."
        )
    if arguments.layout is None:
        report = check_bank(arguments.folder)
    else:
        report = check_layout(
            arguments.folder,
            arguments.annotations,
            layout=arguments.layout,
            num_segments=arguments.window,
            classes=_classes(arguments),
        )
    print("\n".join(report.lines()))
    if arguments.list:
        with atomic_write(arguments.list) as handle:
            handle.write("\n".join((*report.lines(None), "")).encode())
    return 0 if report.ok else 1


def _add_simulate(actions: Subcommands) -> None:
    parser = actions.add_parser(
        "simulate",
        help="make a simulated LLP",
        description="Make SimLLP, simulated features with LLP's label statistics, as a bank or as feature files. "
        "No number that comes of it says anything about LLP.",
    )
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--preset", choices=("smoke", "small", "full"), default="small", help="default: small")
    parser.add_argument("--world", type=int, default=0, help="seed of the generator (default: 0)")
    parser.add_argument(
        "--layout", choices=("valor",), help="write feature files in this layout, with annotations, not a bank"
    )
    parser.set_defaults(run=_simulate)


def _simulate(arguments: argparse.Namespace) -> int:
    from mmcse.data import simulated_bank, write_valor_layout

    make = write_valor_layout if arguments.layout else simulated_bank
    make(arguments.out, preset=arguments.preset, world=arguments.world)
    print(f"{arguments.out}: SIMULATED, preset {arguments.preset}, world {arguments.world}")
    return 0


def _add_download(actions: Subcommands) -> None:
    parser = actions.add_parser(
        "download",
        help="fetch annotations, features or checkpoints from their authors",
        description="Fetch LLP's annotations, the published features (about 10 GB) or the authors' checkpoints from "
        "where their authors put them. They belong to them; mind their licences. Large files are resumed, and what is "
        "there is not fetched again.",
        epilog="examples: mmcse data download annotations --out LLP/annotations; "
        "mmcse data download features --layout valor --out LLP/features",
    )
    parser.add_argument("what", choices=("annotations", "features", "checkpoint"))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--layout",
        choices=("valor", "llp"),
        default="valor",
        help="of features: valor (CLAP, CLIP, R(2+1)D) or llp (VGGish, ResNet-152, R(2+1)D); default: valor",
    )
    parser.add_argument(
        "--model", choices=("mmcse", "valor"), default="mmcse", help="whose checkpoint (default: mmcse)"
    )
    parser.set_defaults(run=_download)


def _download(arguments: argparse.Namespace) -> int:
    from mmcse.data.download import ARCHIVES, download_annotations, download_checkpoint, download_features

    if arguments.what == "features":
        count = download_features(arguments.out, arguments.layout)
        print(f"{arguments.out}: {count} files unpacked; {arguments.out / ARCHIVES} may be removed")
        print(f"check them: mmcse data check {arguments.out} --layout {arguments.layout} --annotations DIR")
    elif arguments.what == "annotations":
        print("\n".join(map(str, download_annotations(arguments.out))))
    else:
        paths = download_checkpoint(arguments.out, arguments.model)
        print("\n".join(map(str, paths)))
        print(f"read it: mmcse import {paths[0]} --out DIR --model {arguments.model}")
    return 0


def _add_layout(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--layout",
        choices=("valor", "llp"),
        required=required,
        help="valor: CLAP, CLIP, R(2+1)D; llp: VGGish, ResNet-152, R(2+1)D",
    )
    parser.add_argument("--annotations", type=Path, required=required, help="folder with LLP's AVVP_*.csv files")
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="yaml file of classes, such as a recipe (default: those of LLP)"
    )
    parser.add_argument("--window", type=int, default=10, help="seconds of a video, its segments (default: 10)")


def _classes(arguments: argparse.Namespace) -> tuple[str, ...]:
    from mmcse.vocabulary import LLP_CLASSES, read_vocabulary

    return tuple(read_vocabulary(arguments.classes)) if arguments.classes else LLP_CLASSES
