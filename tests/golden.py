"""Seeded weights, inputs and labels of the reference numbers, as their README defines them.

Reference numbers of another salt, under the same names in a folder of their own, are compared with where `MMCSE_SHARED`
names that folder and `MMCSE_GOLDEN_SALT` their salt. What is kept in the tests themselves is of the public one.
"""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcse.batch import Batch

PUBLIC_SALT = 11
SALT = int(os.environ.get("MMCSE_GOLDEN_SALT", PUBLIC_SALT))
"""That of the reference numbers."""


def value(name: str, shape: tuple[int, ...], salt: int = SALT) -> np.ndarray:
    return np.random.default_rng([salt, zlib.crc32(name.encode())]).standard_normal(shape)


def parameter(name: str, shape: tuple[int, ...], salt: int = SALT) -> Tensor:
    x = value(name, shape, salt)
    if "norm" in name and name.endswith("weight"):
        x = 1 + 0.1 * x
    elif name.endswith("bias"):
        x = 0.1 * x
    else:
        x = x / np.sqrt(shape[-1])
    return torch.from_numpy(x)


def reference_state(golden: Path, network: str, salt: int = SALT) -> dict[str, Tensor]:
    shapes = json.loads((golden / "reference_state.json").read_text())[network]
    return {name: parameter(name, tuple(shape), salt) for name, shape in shapes.items()}


def labels(videos: int, salt: int = SALT, segments: int = 10, classes: int = 25) -> dict[str, Tensor]:
    rng = np.random.default_rng([salt, 7])
    weak = rng.random((videos, classes)) < 0.12
    weak[np.arange(videos), rng.integers(0, classes, videos)] = True
    audio = (rng.random((videos, segments, classes)) < 0.5) * weak[:, None]
    visual = (rng.random((videos, segments, classes)) < 0.5) * weak[:, None]
    names = {"weak": weak, "pseudo_audio": audio, "pseudo_visual": visual}
    return {name: torch.from_numpy(x.astype(np.float64)) for name, x in names.items()}


def batch(
    audio: tuple[int, ...],
    visual: tuple[int, ...],
    motion: tuple[int, ...],
    suffix: str = "",
    salt: int = SALT,
    label_salt: int | None = None,
) -> Batch:
    """Videos whose features are seeded by the names 'audio', 'visual' and 'visual_st' with a suffix.

    Their segments are those of the motion features (B, T, C). Labels have the salt of the features but where another
    is given: a trajectory's steps differ in their suffix, and in the salt of their labels.
    """
    shapes = {"audio": audio, "visual": visual, "visual_st": motion}
    features = {name: torch.from_numpy(value(name + suffix, shape, salt)) for name, shape in shapes.items()}
    return Batch(
        audio=features["audio"],
        visual=features["visual"],
        motion=features["visual_st"],
        **labels(motion[0], salt if label_salt is None else label_salt, segments=motion[1]),
    )
