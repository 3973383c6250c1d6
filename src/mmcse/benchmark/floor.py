"""What a training step has to compute and to pass, how long it takes, and the gap between both, part by part."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

OPTIMISER, REST = "optimiser", "elementwise, sums and norms"
_OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "matrix products": ("addmm", "mm", "linear", "convolution", "convolution_backward"),
    "attention products": (
        "bmm",
        "baddbmm",
        "scaled_dot_product_flash_attention_for_cpu",
        "attend",
        "attend_backward",
    ),
    "softmax": ("softmax", "softmax_backward_data", "exp_"),
    "dropout masks": ("random_", "bernoulli_", "ge", "native_dropout", "native_dropout_backward"),
    "copies": ("copy_", "to_copy", "clone", "cat", "stack", "flip", "fill_", "zero_"),
}
"""Parts of a step and the operations they consist of, without what stands before and after their names."""
PARTS = (*_OPERATIONS, OPTIMISER, REST)
_LIBRARIES = ("aten::", "mmcse_kernels::")
_BEFORE = (*_LIBRARIES, "_", "mkldnn_", "log_", "native_batch_")


@dataclass(frozen=True)
class PartCost:
    """What a part of a step needs and takes."""

    part: str
    multiply_adds: int
    bytes: int
    """Of all tensors that its operations read and write."""
    seconds: float
    """Of one step, by the profiler."""


def part_of(operation: str) -> str:
    """The part that an operation (`library::name`) belongs to, outside the optimiser."""
    name = operation
    for before in _BEFORE:
        name = name.removeprefix(before)
    return next((part for part, names in _OPERATIONS.items() if name in names), REST)


class Costs(TorchDispatchMode):
    """Counts, while it is entered, what is computed and passed in each part, and the shapes of what comes out.

    Attributes:
        multiply_adds: by part, in products of matrices.
        bytes: by part, of tensors that are read and written; views read and write nothing.
        shapes: of results, and how often there was one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.shapes: Counter[tuple[int, ...]] = Counter()
        self._in_optimiser = False

    def __enter__(self) -> "Costs":
        self._hooks = (
            register_optimizer_step_pre_hook(lambda *_: self._enter_optimiser(True)),
            register_optimizer_step_post_hook(lambda *_: self._enter_optimiser(False)),
        )
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        part = OPTIMISER if self._in_optimiser else part_of(func._schema.name)
        if count := flop_registry.get(func._overloadpacket):
            self.multiply_adds[part] += count(*args, **kwargs, out_val=out) // 2
        if not func.is_view:
            self.bytes[part] += sum({id(tensor): tensor.nbytes for tensor in _tensors((args, kwargs, out))}.values())
            self.shapes.update(tuple(tensor.shape) for tensor in _tensors(out))
        return out

    def _enter_optimiser(self, inside: bool) -> None:
        self._in_optimiser = inside


def profile_step(step: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Operations, bytes and time of a step.

    Args:
        step: what is run; once without being looked at, and once to be counted.
        repeats: how often it is profiled.

    Returns:
        "parts", a `PartCost` each, and "outside", the seconds of a step that were spent in no operation: in Python, and
        in handing operations out, which a profiler makes slower.
    """
    step()
    with Costs() as costs:
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        profiled = (time.perf_counter() - start) / repeats
    seconds: Counter[str] = Counter()
    for event in profiler.events() or ():
        if event.name.startswith(_LIBRARIES):
            seconds[_part_of_event(event)] += event.self_cpu_time_total / repeats / 1e6
    parts = [PartCost(part, costs.multiply_adds[part], costs.bytes[part], seconds[part]) for part in PARTS]
    return {"parts": parts, "outside": profiled - seconds.total()}


def _part_of_event(event: FunctionEvent) -> str:
    """The part of an event: of the outermost operation that one of the parts names, for that is what was asked for."""
    part, ancestor = REST, event
    while ancestor is not None:
        if ancestor.name.startswith("Optimizer.step"):
            return OPTIMISER
        if ancestor.name.startswith(_LIBRARIES) and (named := part_of(ancestor.name)) != REST:
            part = named
        ancestor = ancestor.cpu_parent
    return part


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
