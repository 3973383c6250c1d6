"""Training with a compiled network, where that has been seen to compute the same."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mmcse.batch import Batch
from mmcse.errors import one_line
from mmcse.parser import VideoParser

log = logging.getLogger(__name__)


class Compilation(L.Callback):
    """Compiles the network (`torch.nn.Module.compile`), and checks it once against itself as it was.

    Before the first step the network parses the first batch both ways in evaluation mode, where chance has no part,
    and once more in training mode. Where outputs or gradients differ by more than rounding explains, or compiling fails
    (no C++ compiler, for instance), training goes on without it and says so. Validation and test are not compiled:
    each would be compiled for itself, which costs more than it saves. The names in checkpoints are those of a network
    that is not compiled.
    """

    def __init__(self) -> None:
        self.decided = False
        self.compiled: Callable[..., Any] | None = None
        """What stands in for the network's call while training; None where it is not compiled."""

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: VideoParser, batch: Batch, batch_idx: int
    ) -> None:
        """Compiles and checks at the first batch of a training."""
        if self.decided:
            return
        self.decided = True
        in_pieces = pl_module.micro_batch if pl_module.device.type == "cpu" else None
        piece = batch.split(in_pieces or len(batch))[0]  # as the network will be called
        with trainer.precision_plugin.forward_context(), torch.random.fork_rng():
            try:
                eager = _evaluated(pl_module, piece)
                pl_module.network.compile(dynamic=False)  # our shapes are few, and its symbols fail on some
                problem = _difference(eager, _evaluated(pl_module, piece))
                problem = problem or _not_finite(_values(pl_module, piece))
            except Exception as error:  # whatever a compiler may raise
                problem = one_line(error)
        if problem:
            pl_module.network._compiled_call_impl = None
            log.warning("The network is trained without being compiled: %s", problem)
            return
        self.compiled = pl_module.network._compiled_call_impl
        torch._dynamo.config.suppress_errors = True  # a later batch of another shape may fail: that one is not compiled

    def on_validation_start(self, trainer: L.Trainer, pl_module: VideoParser) -> None:  # type: ignore[override]
        """Validates with the network as it is."""
        pl_module.network._compiled_call_impl = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: VideoParser) -> None:  # type: ignore[override]
        """Goes on with the compiled one."""
        pl_module.network._compiled_call_impl = self.compiled

    def on_fit_end(self, trainer: L.Trainer, pl_module: VideoParser) -> None:  # type: ignore[override]
        """Leaves the network as it was."""
        pl_module.network._compiled_call_impl = None


def _evaluated(module: VideoParser, batch: Batch) -> dict[str, Tensor]:
    """As `_values`, in evaluation mode."""
    module.network.eval()
    try:
        return _values(module, batch)
    finally:
        module.network.train()


def _values(module: VideoParser, batch: Batch) -> dict[str, Tensor]:
    """Output, loss and gradient on a batch, by what they are."""
    parameters = dict(module.network.named_parameters())
    out = module.network(batch.audio, batch.visual, batch.motion)
    total = module.objective(out, batch)["total"]
    gradients = torch.autograd.grad(total, tuple(parameters.values()), allow_unused=True)
    values = {"the segment logits": out.segment_logits, "the video probabilities": out.video_prob, "the loss": total}
    values |= {f"the gradient of {name}": g for name, g in zip(parameters, gradients, strict=True) if g is not None}
    return {name: value.detach() for name, value in values.items()}


def _difference(eager: Mapping[str, Tensor], compiled: Mapping[str, Tensor]) -> str:
    """What differs by more than rounding explains, in words; empty where nothing does."""
    if eager.keys() != compiled.keys():
        return "other parameters have a gradient when it is."
    gradients = [float(value.abs().max()) for name, value in eager.items() if name.startswith("the gradient")]
    for name, value in eager.items():
        tolerance = torch.finfo(value.dtype).eps ** 0.5
        largest = max(float(value.abs().max()), tolerance * max(gradients))  # some gradients are nothing but rounding
        difference = float((value - compiled[name]).abs().max())
        if not difference <= tolerance * largest:
            return f"{name} would differ by {difference:.1e}, at a largest value of {largest:.1e}."
    return ""


def _not_finite(values: Mapping[str, Tensor]) -> str:
    """What of a training step is not finite, in words; empty where all is."""
    return next(
        (f"in training {name} would not be finite." for name, v in values.items() if not v.isfinite().all()), ""
    )
