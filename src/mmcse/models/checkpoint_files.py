"""Networks as files: the authors' checkpoints in and out, and our own folders of weights and a config.

The authors' files are pickles. They are read weights-only: whatever else than tensors lies in one is refused, and
nothing in it is ever run.
"""

import inspect
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.files import atomic_write, write_json
from mmcse.models.recognition import REFERENCES, candidates
from mmcse.models.reference import (
    load_reference_state,
    repeated_reference_names,
    to_reference_state,
    unused_reference_names,
)
from mmcse.vocabulary import near_miss

FEATURE_SETS = {(768, 768): "CLAP/CLIP", (128, 2048): "VGGish/ResNet-152"}
"""Widths of the audio and the appearance stream -> the features that have them."""

WEIGHTS_FILE, CONFIG_FILE = "network.safetensors", "network.json"

_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the state dict when they save more than that."""

Arguments = dict[str, Any]
"""Keyword arguments that build a network."""


@dataclass(frozen=True)
class Recognised:
    """What a reference state is, as far as its names and shapes tell."""

    network: str
    """A name of `REFERENCES`."""
    sizes: Arguments
    """The arguments that shapes tell: widths, classes, layers. Heads, segments and the place of norms are not."""

    def __str__(self) -> str:
        widths = self.sizes["audio_dim"], self.sizes["visual_dim"]
        features = FEATURE_SETS.get(widths, f"features of {widths[0]} (audio) and {widths[1]} (visual) numbers")
        told = (name for name in ("hidden_dim", "num_layers", "num_levels", "num_classes") if name in self.sizes)
        sizes = ", ".join(f"{name} {self.sizes[name]}" for name in told)
        return f"{REFERENCES[self.network].network.__name__} on {features} ({sizes})"


def read_reference_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint's tensors, without running anything that lies in the file.

    A state dict under "state_dict" or "model" is unwrapped, and the "module." that nn.DataParallel adds is removed.

    Args:
        path: a file written by `torch.save`.

    Returns:
        The authors' parameter names and tensors, on the CPU.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is none of PyTorch's, is damaged, holds other objects than tensors, or no state dict.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"There is no file {path}. Expected a checkpoint (a PyTorch state dict).")
    try:
        state = load_tensors(path)
    except Exception as error:  # where a file is damaged decides what PyTorch raises
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} holds more than tensors: it would load {refused[1]}, and loading objects runs code, so "
                "nothing was read. If you trust its origin, save the plain weights where the file was made: "
                "torch.save(network.state_dict(), ...)."
            ) from error
        raise UserError(
            f"{path} cannot be read: it is damaged (an unfinished download?) or not a PyTorch checkpoint. "
            "Expected a state dict written by torch.save."
        ) from error
    while isinstance(state, Mapping) and (wrapper := next((w for w in _WRAPPERS if w in state), None)):
        state = state[wrapper]
    if not isinstance(state, Mapping) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(
            f"{path} holds {_summary(state)}. Expected a state dict: parameter names and tensors, "
            "plain or under 'state_dict' or 'model'."
        )
    prefixed = all(str(name).startswith("module.") for name in state)
    return {str(name).removeprefix("module.") if prefixed else str(name): t for name, t in state.items()}


def load_tensors(file: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote, on the CPU; nothing in the file is run, and no more is allocated than the file holds.

    Raises:
        ValueError: the file is an archive with compressed or overlapping entries, as PyTorch writes none.
        Exception: whatever PyTorch raises for a damaged file, or for one that holds other objects.
    """
    if zipfile.is_zipfile(file):  # what PyTorch has written since 1.6
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > os.path.getsize(file):
            raise ValueError("its entries claim more than the file holds")
    return torch.load(file, map_location="cpu", weights_only=True)


def recognise(state: Mapping[str, Tensor], model: str | None = None) -> Recognised:
    """Tell from names and shapes which network a reference state belongs to.

    Args:
        state: the authors' names and tensors.
        model: what the user takes it for, a name of `REFERENCES`; None leaves it to the names.

    Raises:
        UserError: the state is of none of the networks, of another one than `model`, or incomplete.
    """
    if model is not None and model not in REFERENCES:
        raise UserError(f"There is no model {model!r}.{near_miss(model, REFERENCES)} Known: {', '.join(REFERENCES)}.")
    possible = candidates(state)
    if model is not None and model not in possible and _has_names_of(model, state):
        possible = [model]  # fewer marks than another's, or none, but the same parameters
    if not possible:
        raise UserError(
            f"This is no checkpoint of a known method's authors; it has {len(state)} tensors, for instance "
            f"{', '.join(sorted(state)[:3])}. Known: {', '.join(REFERENCES)}. "
            "(Checkpoints of this suite's own runs need no import.)"
        )
    if model is None and len(possible) > 1:
        raise UserError(
            f"This may be {' or '.join(possible)}: the parameters that both use have the same names. "
            "Say which with --model."
        )
    name = model if model in possible else possible[0]
    found = Recognised(name, REFERENCES[name].sizes_of(state))
    if model is not None and model != name:
        wanted = REFERENCES[model].network.__name__
        raise UserError(f"This looks like {found}, not like {wanted}. Use --model {name}.")
    return found


def _has_names_of(model: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a network of the sizes that a state tells has just its parameters."""
    try:
        with torch.device("meta"):
            network = REFERENCES[model].network(**REFERENCES[model].sizes_of(state))
    except (UserError, KeyError):
        return False
    names = to_reference_state(network).keys() | repeated_reference_names(network).keys()
    return names | unused_reference_names(network).keys() == state.keys()


def describe(network: nn.Module, arguments: Arguments) -> str:
    """In a few words, what one of `REFERENCES` is and which features it reads.

    Args:
        network: an instance of one of `REFERENCES`.
        arguments: what it was built with.
    """
    return str(Recognised(network_name(network), arguments))


def network_name(network: nn.Module) -> str:
    """The name in `REFERENCES` of a network.

    Raises:
        UserError: the network is none of `REFERENCES`.
    """
    name = next((name for name, known in REFERENCES.items() if type(network) is known.network), None)
    if name is None:
        raise UserError(f"A {type(network).__name__} cannot be saved this way. Expected: {', '.join(REFERENCES)}.")
    return name


def import_checkpoint(
    path: str | os.PathLike[str], model: str | None = None, **overrides: Any
) -> tuple[nn.Module, Arguments]:
    """Build the network of one of the authors' checkpoints.

    Args:
        path: a file written by the reference implementation of a method.
        model: the network it is expected to be, a name of `REFERENCES`; None takes what it looks like.
        overrides: arguments of the network that shapes do not tell (num_heads, num_segments, VALOR's norm), where
            they differ from the method's defaults.

    Returns:
        The network in evaluation mode, and all arguments that build it.

    Raises:
        UserError: the file cannot be read, is of another model, or does not fit; the message says what it looks like
            and which parameters are missing or unknown or have another shape.
    """
    state = read_reference_checkpoint(path)
    try:
        found = recognise(state, model)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    build = REFERENCES[found.network].network
    defaults = {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}
    for name in overrides:
        if name not in defaults:
            raise UserError(f"{build.__name__} has no argument {name!r}.{near_miss(name, defaults)}")
    arguments = defaults | found.sizes | overrides
    if arguments.get("label_embeddings", "") is None:
        raise UserError(
            f"{path} looks like {found}, which reads embeddings of the class names, and a checkpoint does not hold "
            "them. Give them with --label-embeddings FILE."
        )
    try:
        network = build(**arguments)
        load_reference_state(network, state)
    except UserError as error:
        raise UserError(f"{path} looks like {found}, but does not fit. {error}") from error
    return network.eval(), arguments


def export_reference(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a network's weights as a state dict that the authors' code loads, strictly.

    Parameters that their networks have and never use are written as zeros.

    Args:
        network: one of the suite's networks with a reference implementation.
        path: the file to write; one that exists is replaced.

    Raises:
        UserError: there is no reference implementation of this network.
    """
    state = {name: tensor.cpu() for name, tensor in to_reference_state(network).items()}
    state |= {second: state[first] for second, first in repeated_reference_names(network).items()}
    state |= {name: torch.zeros(shape) for name, shape in unused_reference_names(network).items()}
    with atomic_write(path) as handle:
        torch.save(state, handle)


def save_network(
    folder: str | os.PathLike[str], network: nn.Module, arguments: Arguments, source: Mapping[str, Any] | None = None
) -> None:
    """Write a network as a folder: its weights as safetensors, and a JSON config that says how to build it.

    Args:
        folder: created where it is missing; a network that lies there is replaced.
        network: an instance of one of `REFERENCES`.
        arguments: what it was built with.
        source: where the weights come from, for the reader of the config: file, checksum, run.

    Raises:
        UserError: the network is none of `REFERENCES`, or the disk is full.
    """
    name = network_name(network)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    (Path(folder) / CONFIG_FILE).unlink(
        missing_ok=True
    )  # interrupted here, the folder holds no network, not a mixed one
    with atomic_write(Path(folder) / WEIGHTS_FILE) as handle:
        handle.write(safetensors.torch.save(weights))
    write_json(Path(folder) / CONFIG_FILE, {"network": name, "arguments": arguments, "source": source or {}})


def load_network(folder: str | os.PathLike[str]) -> tuple[nn.Module, Arguments]:
    """Read back what `save_network` wrote.

    Returns:
        The network in evaluation mode, and the arguments that build it.

    Raises:
        MissingFileError: the folder lacks the config or the weights.
        UserError: one of the two files is damaged, or they do not fit each other.
    """
    config_file, weights_file = Path(folder) / CONFIG_FILE, Path(folder) / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise MissingFileError(f"There is no {file.name} in {folder}. Expected a folder written by `mmcse import`.")
    damaged = f"{weights_file} does not fit {config_file.name}, or is damaged"
    try:
        weights = safetensors.torch.load_file(weights_file)
    except SafetensorError as error:
        raise UserError(f"{damaged}: {one_line(error)}") from error
    try:
        config = json.loads(config_file.read_bytes())
        build, arguments = REFERENCES[config["network"]].network, config["arguments"]
        network = build(**arguments | stored_arguments(arguments, weights))
    except Exception as error:  # any value may stand in any place
        raise UserError(
            f"{config_file} does not describe a network ({type(error).__name__}: {one_line(error)}). Import it again."
        ) from error
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{damaged}: {one_line(error)}") from error
    return network.eval(), arguments


def stored_arguments(arguments: Iterable[str], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What lies among a network's weights and need not be read again from the file that its argument of that name says.

    LEAP's embeddings of the class names, for one, are in its checkpoints, wherever their file has gone.
    """
    return {name: weights[name] for name in arguments if name in weights}


def _summary(content: object) -> str:
    """What was found instead of a state dict, in a few words."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    kinds = [f"{name!r}: {type(value).__name__}" for name, value in list(content.items())[:5]]
    return f"a dict of {len(content)} entries" + (f" ({', '.join(kinds)})" if kinds else "")
