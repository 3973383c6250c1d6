"""How time and memory grow with videos, segments, classes and layers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from mmcse.benchmark.memory import training_memory
from mmcse.benchmark.timing import take_turns
from mmcse.benchmark.ways import Sizes, build, inference, random_batch, training_step

Axis = tuple[Sizes, tuple[int, ...]]

AXES: Mapping[str, Axis] = {
    "videos": (Sizes(num_layers=2, micro_batch=None), (8, 16, 32, 64, 128)),
    "num_segments": (Sizes(videos=8, num_layers=2, micro_batch=None), (10, 20, 40, 80, 120)),
    "num_classes": (Sizes(videos=2, num_layers=2, micro_batch=None), (25, 50, 100, 200, 400)),
    "num_layers": (Sizes(videos=16, micro_batch=None), (1, 2, 4, 8)),
    "micro_batch": (Sizes(num_layers=2), (4, 8, 16, 32, 64)),
}
"""The fields of `Sizes` that grow, what the other fields are meanwhile, and how far."""
QUICK_AXES: Mapping[str, Axis] = {"num_layers": (Sizes(videos=2, micro_batch=None), (1, 2))}


def grow(axes: Mapping[str, Axis], repeats: int) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every axis by name, and what measures it.

    Returns of the measurements: "sizes", "others" (the fields that stay), and for every size the "training" and
    "inference" times in seconds and the "memory" that training needs more than before, in bytes.
    """
    for name, (base, sizes) in axes.items():
        yield name, lambda name=name, base=base, sizes=sizes: _measure(name, base, sizes, repeats)


def _measure(name: str, base: Sizes, sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
    points = {str(size): replace(base, **{name: size}) for size in sizes}
    memory = {size: training_memory("ours", "float32", sizes=point)["step"] for size, point in points.items()}
    made = {size: (build("ours", point), random_batch(point), point.micro_batch) for size, point in points.items()}
    steps = {size: training_step(network, b, "float32", micro) for size, (network, b, micro) in made.items()}
    passes = {size: inference(network, b, "float32") for size, (network, b, _) in made.items()}
    return {
        "sizes": list(sizes),
        "others": {field: value for field, value in asdict(base).items() if field != name},
        "training": list(take_turns(steps, repeats).values()),
        "inference": list(take_turns(passes, repeats).values()),
        "memory": list(memory.values()),
    }


def map_bytes(sizes: Sizes, num_heads: int) -> int:
    """Bytes of the attention weights that a piece of a training step keeps for its gradient.

    Dropout acts on the weights (rows, H, K, K), so they and what dropout left of them exist in every layer, intra- and
    cross-modal, in single precision; rows are B T M. Without gradients nothing of that size is kept.
    """
    rows = (sizes.micro_batch or sizes.videos) * sizes.num_segments * 2
    return 2 * 2 * sizes.num_layers * rows * num_heads * sizes.num_classes**2 * 4
