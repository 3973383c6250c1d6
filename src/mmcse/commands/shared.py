"""What the commands' parsers have in common."""

import argparse
from pathlib import Path
from typing import Any

Subcommands = argparse._SubParsersAction
"""What `add_subparsers` returns; argparse has no public name for it."""


def add_override(parser: argparse._ActionsContainer) -> None:
    """Define how checkpoints are evaluated where it is not as they say themselves."""
    parser.add_argument(
        "--override",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="as `mmcse eval` takes them, for example data=bank data.bank=FOLDER, or packages=[mymethod]",
    )


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Define how the encoders of videos are loaded and run; `encoder_options` reads it."""
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with the encoders' weights")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU where there is one)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default: float32")
    parser.add_argument("--batch", type=int, default=4, help="windows that are encoded together (default: 4)")
    parser.add_argument("--offline", action="store_true", help="never download weights (as HF_HUB_OFFLINE=1)")


def encoder_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as `FeatureExtractor` takes them."""
    return {
        "weights": arguments.weights,
        "device": arguments.device,
        "dtype": arguments.dtype,
        "batch_size": arguments.batch,
        "offline": arguments.offline or None,
    }
