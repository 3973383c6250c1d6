"""Methods on HAN's network: their seeded weights, their videos, and what is compared with the reference numbers."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import golden
from mmcse.batch import Batch, ParserOutput
from mmcse.models import count_parameters
from mmcse.models.reference import load_reference_state, to_reference_state, unused_reference_names

N = TypeVar("N", bound=nn.Module)

SMALL = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "hidden_dim": 8, "feedforward_dim": 6}


def zoo_numbers(shared: Path, method: str) -> dict[str, np.ndarray]:
    with np.load(shared / "zoo" / f"public_{method}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def zoo_shapes(shared: Path, method: str) -> dict[str, tuple[int, ...]]:
    shapes = json.loads((shared / "zoo" / f"state_{method}.json").read_text())
    return {name: tuple(shape) for name, shape in shapes.items()}


def with_zoo_weights(network: N, shared: Path, method: str) -> N:
    network = network.double().eval()
    shapes = zoo_shapes(shared, method)
    load_reference_state(network, {name: golden.parameter(name, shape) for name, shape in shapes.items()})
    return network


def refined(batch: Batch) -> Batch:
    """The batch with the labels of its first segments as labels of the modalities."""
    assert batch.pseudo_audio is not None
    assert batch.pseudo_visual is not None
    return replace(batch, weak_audio=batch.pseudo_audio[:, 0], weak_visual=batch.pseudo_visual[:, 0])


def uniform(name: str, shape: tuple[int, ...], salt: int = golden.SALT) -> Tensor:
    return torch.from_numpy(np.random.default_rng([salt, zlib.crc32(name.encode())]).random(shape))


def predictions(out: ParserOutput) -> dict[str, Tensor]:
    """The four arrays that every method's reference has, under its names."""
    return {
        "global_prob": out.video_prob,
        "a_prob": out.audio_prob,
        "v_prob": out.visual_prob,
        "frame_prob": out.segment_prob,
    }


def losses_and_norms(network: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses, and the norms of the total's gradient by the top-level modules of the reference."""
    network.zero_grad()
    losses["total"].backward()
    return {f"loss_{name}": loss for name, loss in losses.items()} | gradient_norms(network)


def gradient_norms(network: nn.Module) -> dict[str, Tensor]:
    """Norms of a network's gradients, by the top-level modules of the reference."""
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in network.named_parameters()}
    of_module: dict[str, list[Tensor]] = {}
    for name, gradient in to_reference_state(network, gradients).items():
        of_module.setdefault(name.split(".")[0], []).append(gradient.flatten())
    norms = {f"grad_norm.{name}": torch.cat(parts).norm() for name, parts in of_module.items()}
    total = torch.cat([gradient for parts in of_module.values() for gradient in parts]).norm()
    return norms | {"grad_norm_total": total}


def assert_golden(
    ours: Mapping[str, Tensor],
    numbers: Mapping[str, np.ndarray],
    case: str,
    renamed: Mapping[str, str] | None = None,
    atol: float = 1e-9,
) -> None:
    """Every stored array of a case is among ours; `renamed` maps their names to ours."""
    stored = {name.removeprefix(f"{case}."): array for name, array in numbers.items() if name.startswith(f"{case}.")}
    assert stored, f"no numbers of {case}"
    for name, expected in stored.items():
        found = ours[(renamed or {}).get(name, name)].detach().numpy()
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=atol, err_msg=f"{case}.{name}")


def assert_states_fit(network: nn.Module, shared: Path, method: str, in_state: int, used: int) -> None:
    """Our export and the parameters that the reference never uses make up the authors' state, and counts agree."""
    shapes, state = zoo_shapes(shared, method), to_reference_state(network)
    assert {n: tuple(t.shape) for n, t in state.items()} | dict(unused_reference_names(network)) == shapes
    assert all(torch.equal(tensor, golden.parameter(name, shapes[name])) for name, tensor in state.items())
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == in_state
    assert count_parameters(network) == (used, 0)


def small_batch() -> Batch:
    """Videos for networks of `SMALL`, with refined labels; the same whatever the salt of the reference numbers."""
    return refined(golden.batch((3, 10, 6), (3, 20, 7), (3, 10, 5), salt=golden.PUBLIC_SALT))


def seeded(network: N) -> N:
    """The network in double precision, with weights from numpy by our own names, which are the same everywhere."""
    network.double().eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(golden.parameter(name, tuple(weight.shape), golden.PUBLIC_SALT))
    return network


def fingerprint(network: nn.Module, objective: Callable[..., dict[str, Tensor]], batch: Batch) -> list[float]:
    """Loss, norm of its gradient, sums of segment and video probabilities: any change of the method changes them."""
    network = seeded(network)
    out = network(batch.audio, batch.visual, batch.motion)
    found = losses_and_norms(network, objective(out, batch))
    numbers = (found["loss_total"], found["grad_norm_total"], out.segment_prob.sum(), out.video_prob.sum())
    return [round(float(x.detach()), 11) for x in numbers]
