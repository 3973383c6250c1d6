"""Weights and inputs of the reference numbers in `test_encoder_networks.py`, seeded by the names of the parameters."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([5, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)


def seeded(network: nn.Module) -> Mapping[str, Tensor]:
    """A state dict for the network: kernels that keep the scale, norms that change it a little."""
    state = network.state_dict()
    for name, old in state.items():
        x = value(name, tuple(old.shape))
        if old.dim() > 1:
            x = x * np.sqrt(2 / np.prod(old.shape[1:]))
        elif name.endswith("running_var"):
            x = 1 + 0.3 * np.tanh(x)
        elif name.endswith("weight"):
            x = 0.6 + 0.1 * x
        else:
            x = 0.1 * x
        state[name] = torch.from_numpy(np.asarray(x)).to(old.dtype)
    network.load_state_dict(state)
    return state
