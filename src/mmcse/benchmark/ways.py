"""The two ways that are compared: MM-CSE as the suite computes it, and as the paper reads, with the same weights."""

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.nn.utils import clip_grad_norm_

import mmcse
from mmcse.allocator import keep_freed_memory
from mmcse.batch import Batch, ParserOutput
from mmcse.configuration import TrainSettings, compose_config
from mmcse.errors import UserError, one_line
from mmcse.microbatches import in_pieces
from mmcse.models import kernels
from mmcse.models.efficiency import random_features
from mmcse.models.reference import to_reference_state

log = logging.getLogger(__name__)

Way = Literal["literal", "ours"]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
LEARNING_RATE_KEPT = 0.0
"""Steps are repeated on one batch; nothing should be learnt that changes what the next one costs."""

_LITERAL_SETTINGS = (
    "audio_dim", "visual_dim", "motion_dim", "num_classes", "hidden_dim", "class_dim", "num_layers", "num_heads",
    "feedforward_dim",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the cost of a step; the defaults are the paper's, on CLAP/CLIP features."""

    videos: int = 64
    """B."""
    num_segments: int = 10
    """T."""
    num_classes: int = 25
    """K."""
    num_layers: int = 4
    """L."""
    micro_batch: int | None = TrainSettings.micro_batch
    """Videos of a piece of ours; None computes the batch in one."""
    widths: tuple[int, int, int] = (768, 768, 512)
    """C of audio, visual and motion."""


def literal_modules() -> tuple[Any, Any, Any]:
    """The literal network, its loader and evaluation, and the evaluation's oracle, which are part of the tests.

    Raises:
        UserError: this is no checkout.
    """
    tests = Path(mmcse.__file__).parents[2] / "tests"
    if not (tests / "literal_loader.py").is_file():
        raise UserError(
            "`mmcse bench` compares with the literal implementation among the tests, which an installed package does "
            "not have: run it in a checkout (`make bench`)."
        )
    sys.path[:0] = [folder for folder in (str(tests), str(tests / "evaluation")) if folder not in sys.path]
    network, loader, oracle = map(importlib.import_module, ("literal", "literal_loader", "protocol_oracle"))
    return network, loader, oracle


def recipe() -> DictConfig:
    """The default recipe of training: objective, optimiser, clipping."""
    return compose_config("train", ["model=mmcse"])


def build(way: Way, sizes: Sizes) -> nn.Module:
    """An MM-CSE; of equal seeds and sizes, both ways have the same weights."""
    streams = dict(zip(("audio_dim", "visual_dim", "motion_dim"), sizes.widths, strict=True))
    settings = {**streams, "num_classes": sizes.num_classes, "num_layers": sizes.num_layers}
    config = recipe().model
    torch.manual_seed(0)
    ours = instantiate(config, **settings, num_segments=sizes.num_segments)
    if way == "ours":
        return ours
    literal, _, _ = literal_modules()
    settings = {name: settings.get(name, config.get(name)) for name in _LITERAL_SETTINGS}
    network = literal.LiteralMMCSE(**settings)
    network.load_state_dict(to_reference_state(ours))
    return network


def build_compiled(sizes: Sizes) -> nn.Module | None:
    """Ours, compiled by PyTorch; None where it cannot be (no C++ compiler, for instance)."""
    network = build("ours", sizes)
    try:
        torch.compile(torch.square, dynamic=False)(torch.ones(1))
    except Exception as error:  # whatever a compiler may raise
        log.warning("Nothing is measured of the compiled network: %s", one_line(error))
        return None
    network.compile(dynamic=False)  # as callbacks.compilation does
    return network


def random_batch(sizes: Sizes) -> Batch:
    """Videos of noise with labels by chance."""
    B, T, K = sizes.videos, sizes.num_segments, sizes.num_classes
    audio, visual, motion = random_features(B, T, sizes.widths)
    pseudo_audio, pseudo_visual = (torch.rand(2, B, T, K) < 0.1).float()
    weak = torch.maximum(pseudo_audio, pseudo_visual).amax(dim=1)
    return Batch(
        audio=audio, visual=visual, motion=motion, weak=weak, pseudo_audio=pseudo_audio, pseudo_visual=pseudo_visual
    )


def training_step(
    network: nn.Module, batch: Batch, precision: Precision, micro_batch: int | None = None
) -> Callable[[], None]:
    """A step of training as the trainer takes it: losses, gradient, clipping, optimiser.

    Args:
        network: either way's.
        batch: what every step is taken on.
        precision: of automatic mixed precision; "float32" is none.
        micro_batch: videos of a piece, see `mmcse.microbatches`.
    """
    config = recipe()
    objective, parameters = instantiate(config.objective), list(network.parameters())
    optimizer = instantiate(config.optimizer)(parameters)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE_KEPT

    def losses_of(piece: Batch) -> dict[str, torch.Tensor]:
        with _autocast(precision):
            return objective(network(piece.audio, piece.visual, piece.motion), piece)

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        losses = in_pieces(losses_of, batch, micro_batch, parameters) if micro_batch else losses_of(batch)
        losses["total"].backward()
        clip_grad_norm_(parameters, config.trainer.gradient_clip_val)
        optimizer.step()

    return step


def inference(network: nn.Module, batch: Batch, precision: Precision) -> Callable[[], ParserOutput]:
    """A forward pass without gradients; ours leaves out what only losses need, the literal one cannot."""
    options = {} if type(network).__name__.startswith("Literal") else {"auxiliary": False}

    def infer() -> ParserOutput:
        network.eval()
        with torch.no_grad(), _autocast(precision):
            return network(batch.audio, batch.visual, batch.motion, **options)

    return infer


def one_after_another(passes: Sequence[Callable[[], object]], precision: Precision) -> Callable[[], object]:
    """Passes in one region of automatic mixed precision, in which each weight is cast once."""

    def run() -> object:
        with _autocast(precision):
            return [infer() for infer in passes]

    return run


def at_home(way: Way, run: Callable[[], object], in_kernels: bool = False) -> Callable[[], object]:
    """A way's work with what it has there: ours keeps freed memory and may use operators in C++ (`kernels=true`)."""

    def timed() -> object:
        keep_freed_memory(way == "ours")
        kernels.use(in_kernels)
        return run()

    return timed


def largest_difference(sizes: Sizes) -> float:
    """Largest difference of both ways' logits in evaluation: they compute the same."""
    batch = random_batch(sizes)
    ours, literal = (inference(build(way, sizes), batch, "float32")().segment_logits for way in ("ours", "literal"))
    return float((ours - literal).abs().max())


def _autocast(precision: Precision) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
