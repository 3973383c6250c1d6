"""MGN, MM-Pyramid, DHHN, LEAP and LFAV: their seeded weights, and sizes to test them at.

What is compared with the reference numbers is compared as for the methods on HAN's network.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import golden
import golden_hybrids
from mmcse.batch import Batch
from mmcse.models import count_parameters
from mmcse.models.reference import load_reference_state, to_reference_state, unused_reference_names

N = TypeVar("N", bound=nn.Module)


def parameter(name: str, shape: tuple[int, ...], salt: int = golden.SALT) -> Tensor:
    """A parameter or buffer: the first rule that fits its name."""
    x = golden.value(name, shape, salt)
    leaf = name.split(".")[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros((), dtype=torch.int64)
    if leaf == "running_mean":
        x = 0.1 * x
    elif leaf == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif leaf == "g" or (leaf == "weight" and len(shape) == 1):
        x = 1 + 0.1 * x
    elif leaf == "b" or leaf.endswith("bias"):
        x = 0.1 * x
    else:
        fan = int(np.prod(shape[1:]))
        x = x / np.sqrt(shape[0] if fan == 1 else fan)
    return torch.from_numpy(x)


def shapes(shared: Path, method: str, case: str) -> dict[str, tuple[int, ...]]:
    stored = json.loads((shared / "zoo" / f"state_{method}.json").read_text())["shapes"][case]
    return {name: tuple(shape) for name, shape in stored.items()}


def with_weights(network: N, shared: Path, method: str, case: str, prefix: str = "") -> N:
    """The network in double precision with a case's weights; `prefix` stands before its names for seeding."""
    state = {name: parameter(prefix + name, shape) for name, shape in shapes(shared, method, case).items()}
    load_reference_state(network.double().eval(), state)
    return network


def assert_states_fit(network: nn.Module, shared: Path, method: str, case: str) -> None:
    """Our export and what the reference never uses make up the authors' state, and the counts are the stored ones.

    Shapes are all it takes: the network may lie on the meta device.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in to_reference_state(network).items()}
    unused = dict(unused_reference_names(network))
    assert not ours.keys() & unused.keys()
    assert ours | unused == shapes(shared, method, case)
    counts = json.loads((shared / "zoo" / f"state_{method}.json").read_text())["parameters"]
    if case in counts:
        assert sum(int(np.prod(shape)) for shape in unused.values()) == counts.get(f"{case}.unused", 0)
        assert sum(count_parameters(network)) == counts[case] - counts.get(f"{case}.unused", 0)


def videos(segments: int = 10) -> Batch:
    """The three seeded videos, with the labels of their first segments as labels of the modalities."""
    return golden_hybrids.refined(golden.batch((3, segments, 128), (3, 8 * segments, 2048), (3, segments, 512)))


def without_refinement(batch: Batch) -> Batch:
    """The videos with their weak labels alone."""
    return replace(batch, weak_audio=None, weak_visual=None)


def small_videos(segments: int, classes: int, count: int = 3) -> Batch:
    """Videos for networks built by `small`."""
    generator = torch.Generator().manual_seed(segments * 100 + classes)

    def features(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    labels = golden.labels(count, golden.PUBLIC_SALT, segments=segments, classes=classes)
    batch = Batch(
        audio=features(count, segments, 6),
        visual=features(count, 2 * segments, 7),
        motion=features(count, segments, 5),
        **labels,
    )
    return golden_hybrids.refined(batch)


def small(build: type[N], segments: int, classes: int, **switches) -> N:
    """A small network in double precision, in evaluation mode, the same weights every time."""
    torch.manual_seed(0)
    sizes = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "num_classes": classes, "num_segments": segments}
    return build(**sizes, hidden_dim=8, **switches).double().eval()
