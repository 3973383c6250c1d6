"""Networks whose weights are one file of a plain state dict: found, checked, loaded."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from mmcse.data.annotations import sha256
from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.video.encoders.base import Compute, Weights, announce, is_offline, not_here

log = logging.getLogger(__name__)


class Sized(Protocol):
    """A network that is built in the size of its weights."""

    dim: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor], name: str) -> nn.Module:
        """The network of a state dict."""
        ...


class FileEncoder:
    """What encoders share whose weights are one file."""

    name: ClassVar[str]
    weights: ClassVar[Weights]
    architecture: ClassVar[type[Sized]]

    def __init__(self, network: nn.Module, compute: Compute) -> None:
        self.network, self._compute = compute.place(network), compute
        self.dim: int = network.dim  # type: ignore[assignment]

    @classmethod
    def load(
        cls,
        folder_or_repo: Path | str | None = None,
        *,
        device: str = "auto",
        dtype: str = "float32",
        offline: bool | None = None,
    ) -> Self:
        """Load the weights from a folder, or from PyTorch's cache (see `read_state`)."""
        compute = Compute.of(device, dtype)
        state = read_state(cls.name, cls.weights, folder_or_repo, offline)
        return cls(cls.architecture.of(state, cls.name), compute)


def read_state(name: str, weights: Weights, folder: Path | str | None, offline: bool | None) -> dict[str, Tensor]:
    """The state dict of a network, from a folder of weights or from PyTorch's cache, downloaded where it must be.

    A file in `folder` that is not the published one is used with a warning.

    Raises:
        MissingFileError: it is not in `folder`, or not in the cache and cannot be downloaded.
        UserError: the file is not a state dict.
    """
    path = _cached(name, weights, offline) if folder is None else Path(folder) / weights.file
    if not path.is_file():
        raise MissingFileError(
            f"There is no {weights.file} in {path.parent}: the weights of {name} are missing. It comes from "
            f"{weights.source}."
        )
    if not sha256(path).startswith(weights.revision):
        log.warning(f"{path} is not the published file of {name} (its sha256 begins otherwise): features will differ.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged archive makes the unpickler say
        raise UserError(f"{path} is not a file of PyTorch weights ({one_line(error)}). Fetch it again.") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict: expected parameters of {name} by name.")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict; all names and shapes must agree.

    Raises:
        UserError: they do not.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise UserError(f"These are not weights of {name}: {details}") from None


def _cached(name: str, weights: Weights, offline: bool | None) -> Path:
    """The file in PyTorch's cache of checkpoints."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / weights.file
    if not path.is_file():
        if is_offline(offline):
            raise not_here(name, weights, "downloads are switched off")
        announce(name, weights)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(weights.source, str(path), hash_prefix=weights.revision)
        except (OSError, RuntimeError) as error:
            raise not_here(name, weights, f"the download failed ({error})") from None
    return path
