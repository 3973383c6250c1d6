"""What an encoder is, and what all of them share: where weights come from, devices, batches."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmcse.data.npy import size_text
from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.video.decode import Clip

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Published weights of an encoder."""

    file: str
    """Name of the folder or file, as it is looked for in a folder of weights."""
    source: str
    """Repository of the Hugging Face hub, or address of a file."""
    revision: str
    """Commit of the repository, or the first digits of the file's sha256."""
    licence: str
    size_bytes: int
    """What a download takes, roughly."""


class Encoder(Protocol):
    """A network from clips to features.

    Every encoder class has `load(folder_or_repo=None, *, device="auto", dtype="float32", offline=None)`.
    """

    name: str
    stream: Literal["audio", "visual", "motion"]
    dim: int
    """C of the features."""
    sample_rate: int | None
    """Hz of the sound it takes; None for one that sees."""
    weights: Weights
    network: nn.Module

    def tokens(self, num_segments: int) -> int:
        """N: how many features a clip of T segments has."""
        ...

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """Features (B, N, C) of B clips of one length, in float32."""
        ...


@dataclass(frozen=True)
class Compute:
    """Where and in which precision a network computes.

    Args:
        device: "auto" (a GPU where there is one), or a name PyTorch knows.
        dtype: "float32" or "bfloat16".
    """

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, device: str, dtype: str) -> "Compute":
        """Read the two options.

        Raises:
            UserError: there is no such device here, or the dtype is neither of the two.
        """
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"Encoders compute in float32 or bfloat16, not in {dtype!r}.")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"Cannot compute on device {device!r}: {one_line(error)}. Try --device cpu.") from None
        return cls(torch.device(device), getattr(torch, dtype))

    def place(self, network: nn.Module) -> nn.Module:
        """The network, frozen, where it is to compute."""
        return network.to(self.device, self.dtype).eval().requires_grad_(False)

    def batches(self, items: Tensor, size: int) -> Iterator[Tensor]:
        """Items (n, ...) on the device and in the dtype, so many at a time."""
        for part in items.split(size):
            yield part.to(self.device, self.dtype)

    @contextmanager
    def running(self) -> Iterator[None]:
        """No gradients, and a word to the wise where the memory of a GPU does not suffice."""
        try:
            with torch.inference_mode():
                yield
        except torch.OutOfMemoryError as error:
            raise UserError(f"The memory of {self.device} does not suffice: encode fewer windows at a time.") from error


def frames_of(clips: Sequence[Clip], compute: Compute) -> list[Tensor]:
    """The frames of each clip, (F, 3, H, W) uint8 on the device; clips differ in height and width."""
    arrays = (torch.from_numpy(np.ascontiguousarray(clip.frames)) for clip in clips)
    return [array.to(compute.device).permute(0, 3, 1, 2) for array in arrays]


def sound_of(clips: Sequence[Clip], rate: int) -> Tensor:
    """The sound of the clips, (B, n) float32."""
    return torch.from_numpy(np.stack([clip.audio[rate] for clip in clips]))


def per_clip(features: Sequence[Tensor], clips: Sequence[Clip]) -> np.ndarray:
    """Batches of features (n, C) to (B, N, C) in float32."""
    joined = torch.cat([part.float().cpu() for part in features])
    return joined.view(len(clips), -1, joined.shape[-1]).numpy()


def fingerprint(network: nn.Module) -> str:
    """What tells these weights from others, in 16 hexadecimal digits: a digest of the beginnings of all of them."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        beginning = value.flatten()[:64].float().cpu().numpy().tobytes()
        digest.update(f"{name}{tuple(value.shape)}".encode() + beginning)
    return digest.hexdigest()[:16]


def is_offline(offline: bool | None) -> bool:
    """Whether downloads are forbidden: by the caller, or by HF_HUB_OFFLINE in the environment."""
    if offline is not None:
        return offline
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def announce(name: str, weights: Weights) -> None:
    """Say what is about to be downloaded."""
    log.warning(
        f"Downloading {name}: {size_text(weights.size_bytes)} from {weights.source} "
        f"(revision {weights.revision[:8]}, licence {weights.licence})."
    )


def not_here(name: str, weights: Weights, reason: str) -> MissingFileError:
    """The error for weights that are needed and cannot be had."""
    return MissingFileError(
        f"The weights of {name} are not here, and {reason}. Get {weights.file} ({size_text(weights.size_bytes)}) from "
        f"{weights.source}, put it into a folder, and name that folder with --weights."
    )
