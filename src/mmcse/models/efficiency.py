"""What a network costs: parameters, multiply-adds and run time of a video (Table 5)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmcse.models.attention import Attention
from mmcse.models.enhancement import FGSELayer
from mmcse.models.transformer import ContextAttention

ATTENTIONS = Attention, ContextAttention
"""The modules whose multiply-adds are those of attention."""

Features = tuple[Tensor, Tensor, Tensor]
"""Audio, visual and motion features, each (B, N, C)."""


class MultiplyAdds(NamedTuple):
    """Multiply-adds of a forward pass, in matrix products; what is done element by element is not counted."""

    total: int
    attention: int
    """The share of attention modules, which counters that only know linear layers do not see."""


class RunTime(NamedTuple):
    """Seconds of a forward pass over repetitions of it."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""

    def per(self, videos: int) -> "RunTime":
        """The same, divided among the videos of a batch."""
        return RunTime(*(seconds / videos for seconds in self))


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Parameters that inference needs, and those of the parts marked `training_only`."""
    total = sum(p.numel() for p in network.parameters())
    unused = [m for m in network.modules() if getattr(m, "training_only", False)]
    training_only = sum(p.numel() for m in unused for p in m.parameters())
    return total - training_only, training_only


def count_multiply_adds(network: nn.Module, features: Features, *, auxiliary: bool = False) -> MultiplyAdds:
    """Count the multiply-adds of a forward pass with PyTorch's own counter, as the methods' formulas have them.

    MM-CSE's FGSE layers compute the same in a tenth less (`mmcse.models.merged`).

    Args:
        network: any network of the suite.
        features: what it is given; a batch of one video gives the cost of a video.
        auxiliary: count also what only losses and figures need (MM-CSE: the decoders).
    """
    # The counter does not know every fused kernel of attention; the plain one it sees as two matrix products.
    with (
        _inference(network),
        _unmerged(network),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        network(*features, auxiliary=auxiliary)
    by_module = counter.get_flop_counts()
    attention = [f"{type(network).__name__}.{n}" for n, m in network.named_modules() if isinstance(m, ATTENTIONS)]
    flops_of_attention = sum(sum(by_module[name].values()) for name in attention if name in by_module)
    return MultiplyAdds(counter.get_total_flops() // 2, flops_of_attention // 2)


def measure_run_time(network: nn.Module, features: Features, *, repeats: int = 30, warm_up: int = 3) -> RunTime:
    """Time forward passes without gradients, from features in memory to probabilities.

    Args:
        network: any network of the suite, on the device of the features.
        features: what it is given.
        repeats: passes that are timed.
        warm_up: passes before them that are not.
    """
    seconds = []
    with _inference(network):
        for _ in range(warm_up + repeats):
            _wait_for(features[0].device)
            start = time.perf_counter()
            network(*features, auxiliary=False)
            _wait_for(features[0].device)
            seconds.append(time.perf_counter() - start)
    low, median, high = torch.tensor(seconds[warm_up:], dtype=torch.float64).quantile(
        torch.tensor((0.25, 0.5, 0.75), dtype=torch.float64)
    )
    return RunTime(median.item(), low.item(), high.item())


def random_features(
    videos: int, segments: int, widths: tuple[int, int, int], device: torch.device | str = "cpu"
) -> Features:
    """Features of the right shapes, standard normal.

    Args:
        videos: B.
        segments: T.
        widths: C of the audio, visual and motion stream.
        device: where they lie.
    """
    audio, visual, motion = (torch.randn(videos, segments, width, device=device) for width in widths)
    return audio, visual, motion


@contextmanager
def _inference(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and the former mode afterwards."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


@contextmanager
def _unmerged(network: nn.Module) -> Iterator[None]:
    """Its FGSE layers as the paper computes them."""
    merged = [m for m in network.modules() if isinstance(m, FGSELayer) and m.is_merged]
    try:
        for layer in merged:
            layer.is_merged = False
        yield
    finally:
        for layer in merged:
            layer.is_merged = True


def _wait_for(device: torch.device) -> None:
    """Kernels of a GPU run on after their call has returned."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
