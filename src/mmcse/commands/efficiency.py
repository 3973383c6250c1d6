"""`mmcse efficiency`: parameters, multiply-adds and run time of every network (Table 5)."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmcse.commands.shared import Subcommands
from mmcse.markdown import markdown_table

if TYPE_CHECKING:
    from torch import nn

FEATURES = {"VGGish/ResNet-152": (128, 2048, 512), "CLAP/CLIP": (768, 768, 512)}
"""Widths of audio, visual and motion by the name of the feature set."""
STORED_TOKENS = {"VGGish/ResNet-152": (10, 80, 10), "CLAP/CLIP": (64, 10, 10)}
"""Tokens per video of the same streams, as they lie on disk."""
UPSAMPLED_TOKENS = {"CLAP/CLIP": (2048, 10, 10)}
"""The same, where the reference code up-samples a stream before its linear layer."""
PAPER_FEATURES = "VGGish/ResNet-152"
PAPER_METHODS = {"mmcse": "mmcse", "valor_plus": "valor"}
"""Methods of conf/model -> the row of Table 5 whose parameters are theirs, on `PAPER_FEATURES`."""
SEGMENTS = 10
"""T of LLP's videos, to which the paper's numbers belong."""
BATCH = 64

Row = Sequence[str]


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "efficiency",
        help="parameters, multiply-adds and run time of every network",
        description="Count parameters and multiply-adds of every network in conf/model on both feature sets, and "
        "measure the run time per video at batch 1 and 64 (Table 5).",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE instead of printing")
    parser.add_argument("--threads", type=int, help="threads of a CPU (default: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    parser.add_argument("--repeats", type=int, default=30, help="timed passes for each cell (default: 30)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print or write two tables."""
    import torch

    from mmcse.allocator import keep_freed_memory
    from mmcse.errors import UserError
    from mmcse.files import atomic_write

    keep_freed_memory()  # as training and evaluation do
    if arguments.repeats < 1 or (arguments.threads is not None and arguments.threads < 1):
        raise UserError("--repeats and --threads are whole numbers of 1 or more.")
    try:
        torch.empty(1, device=arguments.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {arguments.device} cannot be used: {str(error).splitlines()[0]}") from error
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(arguments.threads or threads)
        costs = list(_costs(arguments.device, arguments.repeats))
        machine = _machine(arguments.device)
    finally:
        torch.set_num_threads(threads)
    ways = list(count_rows())
    if arguments.markdown is None:
        print("\n\n".join((_text(_COSTS, costs), machine, _text(_WAYS, ways))))
    else:
        page = _PAGE.format(machine=machine, costs=markdown_table(_COSTS, costs), ways=markdown_table(_WAYS, ways))
        with atomic_write(arguments.markdown) as handle:
            handle.write(page.encode())
    return 0


_COSTS = (
    "network", "features", "parameters (M)", "for training only (M)", "multiply-adds (G)",
    "ms a video, batch 1", f"ms a video, batch {BATCH}", "paper: parameters (M)", "paper: FLOPs (G)", "paper: ms",
)  # fmt: skip
_WAYS = ("network", "features", "what is counted", "multiply-adds (G)", "without attention (G)", "paper: FLOPs (G)")


def _costs(device: str, repeats: int) -> Iterator[Row]:
    """A row for each network and feature set."""
    from mmcse.models import count_parameters
    from mmcse.models.efficiency import count_multiply_adds, measure_run_time, random_features

    for names, settings in _suite().items():
        for features, widths in FEATURES.items():
            network = _build(settings, widths)
            needed, training_only = count_parameters(network)
            multiply_adds = count_multiply_adds(network, random_features(1, SEGMENTS, widths))
            network.to(device)
            times = (
                measure_run_time(network, random_features(b, SEGMENTS, widths, device), repeats=repeats).per(b)
                for b in (1, BATCH)
            )
            paper = _paper(names) if features == PAPER_FEATURES else ()
            yield (
                ", ".join(names), features, f"{needed / 1e6:.3f}", f"{training_only / 1e6:.3f}",
                f"{multiply_adds.total / 1e9:.3f}", *(_milliseconds(t) for t in times), *(paper or ("", "", "")),
            )  # fmt: skip


def count_rows() -> Iterator[Row]:
    """What the multiply-adds of Table 5's two networks are, counted in every way that the paper leaves open."""
    from mmcse.models.efficiency import count_multiply_adds, random_features

    for names, settings in _suite().items():
        paper = _paper(names)
        for features, widths in FEATURES.items() if paper else ():
            network = _build(settings, widths)
            inputs = random_features(1, SEGMENTS, widths)
            inference, training = (count_multiply_adds(network, inputs, auxiliary=a) for a in (False, True))
            passes = {"inference": inference} | ({"with decoders": training} if training != inference else {})
            tokens = {
                f"{SEGMENTS} segments a stream": 0,
                "linear layers on every stored token": _front_end_extra(network, widths, STORED_TOKENS[features]),
            }
            if features in UPSAMPLED_TOKENS:
                tokens["linear layers on CLAP's map up-sampled"] = _front_end_extra(
                    network, widths, UPSAMPLED_TOKENS[features]
                )
            for how, extra in tokens.items():
                for what, counted in passes.items():
                    total, linear = counted.total + extra, counted.total - counted.attention + extra
                    yield (", ".join(names), features, f"{what}, {how}", f"{total / 1e9:.3f}", f"{linear / 1e9:.3f}",
                           paper[1])  # fmt: skip


def _paper(names: Sequence[str]) -> tuple[str, ...]:
    """The paper's parameters, FLOPs and run time of a method; empty where Table 5 does not have it."""
    from mmcse.runs.paper import paper_table

    row = next((PAPER_METHODS[name] for name in names if name in PAPER_METHODS), None)
    return () if row is None else tuple(f"{value:.2f}" for value in paper_table("5").rows[row].values)


def _front_end_extra(network: Any, widths: Sequence[int], tokens: Sequence[int]) -> int:
    """Multiply-adds more than for T tokens, where a stream's linear layer comes before its pooling to segments."""
    hidden_dim = network.front_end.audio.out_features
    return sum((n - SEGMENTS) * width * hidden_dim for n, width in zip(tokens, widths, strict=True))


def _suite() -> Mapping[tuple[str, ...], Mapping[str, Any]]:
    """The settings of every network in conf/model, by the names of the methods that share it."""
    from omegaconf import OmegaConf

    from mmcse.configuration import config_folder

    suite: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for file in sorted((config_folder() / "model").glob("*.yaml")):
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
        if (settings := content.get("model")) is None:  # another method's network, trained otherwise
            continue
        same = next((names for names, known in suite.items() if known == settings), ())
        suite.pop(same, None)
        suite[*same, file.stem] = settings
    return suite


def _build(settings: Mapping[str, Any], widths: tuple[int, int, int]) -> "nn.Module":
    from hydra.utils import instantiate

    from mmcse.vocabulary import LLP_CLASSES

    sizes = dict(zip(("audio_dim", "visual_dim", "motion_dim"), widths, strict=True))
    return instantiate(settings, **sizes, num_classes=len(LLP_CLASSES), num_segments=SEGMENTS)


def _milliseconds(run_time: Any) -> str:
    median, low, high = (1000 * seconds for seconds in run_time)
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def _machine(device: str) -> str:
    """What the run times were measured on."""
    import platform

    import torch

    from mmcse.benchmark.machine import processor_name

    name = torch.cuda.get_device_name() if device.startswith("cuda") else processor_name()
    threads = f"{torch.get_num_threads()} thread(s)" if device == "cpu" else device
    return (
        f"Run time: median and quartiles (in brackets) of forward passes without gradients from features in memory, "
        f"float32, on {name}, {threads}, PyTorch {torch.__version__}, Python {platform.python_version()}, in a process "
        "that keeps the memory it frees, as `mmcse train` and `mmcse eval` do. "
        "Run times of different machines cannot be compared; the paper does not name its own."
    )


def _text(head: Row, rows: Sequence[Row]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows))


_PAGE = """# Efficiency

Written by `mmcse efficiency --markdown docs/efficiency.md`; do not edit. The columns that begin with "paper" are
Table 5 of the paper, everything else is counted or measured here.

{costs}

{machine}

Parameters are those that inference needs; MM-CSE's decoders are needed in training only. Multiply-adds are counted in
matrix products, on features that are already one vector a segment, as they lie in a feature bank. The paper's
parameters are those of the networks on VGGish/ResNet-152 features, so its numbers stand beside these. They are counted
as the formulas have them; MM-CSE's layers are computed with fewer (`mmcse.models.merged`).

## What the multiply-adds depend on

The paper says neither on which features it counted, nor with what, nor whether its "FLOPs" are multiply-adds or twice
as many. These are the numbers for each of the choices: with or without MM-CSE's decoders; with linear layers on one
vector a segment, on every stored token (64 of CLAP, 80 of ResNet-152), or on CLAP's map after it has been up-sampled
(2,048 tokens), which is where the reference code has them. The last but one column leaves out attention modules, as
counters do that only know linear layers.

{ways}

MM-CSE's 0.80 G are the multiply-adds of the whole network, decoders included, on one vector a segment. VALOR's 0.45 G
are not reached in that way, on either feature set. They are the multiply-adds of its linear layers on CLAP/CLIP with
CLAP's map up-sampled before the first of them, and without attention; there MM-CSE has 0.92 G. Counted in one way,
whichever it is, MM-CSE has more multiply-adds than VALOR, but no way in this table gives both numbers of the paper, nor
does twice as many.
"""
