"""`mmcse import` and `mmcse export`: the authors' checkpoints in and out."""

import argparse
from pathlib import Path
from typing import Any

from mmcse.commands.shared import Subcommands


def add(commands: Subcommands) -> None:
    """Define both commands."""
    _add_import(commands)
    _add_export(commands)


def _add_import(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "import",
        help="make a checkpoint of the authors ours",
        description="Read a checkpoint of the reference code of MM-CSE, HAN, VALOR or another method of the suite, "
        "weights only, and write the network as a folder (safetensors, JSON) that `mmcse eval` scores.",
        epilog="example: mmcse import checkpoint_best.pth --out networks/mmcse",
    )
    parser.add_argument("checkpoint", type=Path, help="file written by the authors' code")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the network")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="mmcse, han, valor, jomold, ...; another name lists all (default: what it looks like)",
    )
    parser.add_argument("--num-heads", type=int, help="attention heads, which no shape tells (default: the method's)")
    parser.add_argument("--num-segments", type=int, help="segments of a video (default: 10, as in LLP)")
    parser.add_argument("--norm", choices=("post", "pre"), help="VALOR: where its norms stand (default: post)")
    parser.add_argument(
        "--label-embeddings", metavar="FILE", help="LEAP: a .npy file, (K, E), which no checkpoint holds"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another argument of the network that no shape tells (MGN: soft_map=..., LEAP: num_classes=...)",
    )
    parser.set_defaults(run=_import)


def _import(arguments: argparse.Namespace) -> int:
    from mmcse.data.annotations import sha256
    from mmcse.models import count_parameters
    from mmcse.models.checkpoint_files import describe, import_checkpoint, save_network

    overrides = {name: getattr(arguments, name) for name in ("num_heads", "num_segments", "norm", "label_embeddings")}
    overrides = {name: value for name, value in overrides.items() if value is not None} | _settings(arguments.set)
    network, settings = import_checkpoint(arguments.checkpoint, arguments.model, **overrides)
    source = {"file": arguments.checkpoint.name, "sha256": sha256(arguments.checkpoint)}
    save_network(arguments.out, network, settings, source)
    inference, training_only = count_parameters(network)
    print(f"{arguments.out}: {describe(network, settings)}, {inference:,} parameters")
    if training_only:
        print(f"  and {training_only:,} that only training needs")
    print(f"score it: mmcse eval checkpoint={arguments.out} data=...")
    return 0


def _settings(given: list[str]) -> dict[str, Any]:
    """NAME=VALUE as in a configuration: numbers, true, false and null are what they look like."""
    from omegaconf import OmegaConf

    from mmcse.errors import UserError

    if odd := [setting for setting in given if "=" not in setting]:
        raise UserError(f"--set {odd[0]!r} says no value; expected NAME=VALUE.")
    return {str(name): value for name, value in OmegaConf.from_dotlist(given).items()}


def _add_export(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a network for the authors' code",
        description="Write the weights of a trained or imported network under the names of the authors' code, as a "
        "plain PyTorch state dict.",
        epilog="example: mmcse export runs/mmcse/.../checkpoints/best.ckpt --out checkpoint_best.pth",
    )
    parser.add_argument("checkpoint", type=Path, help="a run's checkpoint, or a folder written by `mmcse import`")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from mmcse.evaluate import read_checkpoint, rebuild
    from mmcse.models.checkpoint_files import export_reference

    network = rebuild(*read_checkpoint(arguments.checkpoint))
    export_reference(network, arguments.out)
    print(f"{arguments.out}: weights of {type(network).__name__} under the names of its authors' code")
    return 0
