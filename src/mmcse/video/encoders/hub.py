"""Networks of the transformers library: found in a folder or in the hub's cache, downloaded where they must be."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.video.encoders.base import Weights, announce, is_offline, not_here

SETTINGS = ("config.json", "preprocessor_config.json", "tokenizer*.json", "vocab.json", "merges.txt", "special_tokens*")
"""Files beside the weights that a network needs."""


def transformers() -> ModuleType:
    """The library.

    Raises:
        UserError: it is not installed, or a part of it cannot be imported.
    """
    try:
        import transformers

        _ = transformers.CLIPModel, transformers.ClapModel  # imported on first use
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"CLIP and CLAP need the transformers library ({one_line(error)}). Install it with: "
            "pip install 'mmcse[video]'; a torchvision that was built for another PyTorch must be removed."
        ) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def find_folder(
    name: str, weights: Weights, folder_or_repo: Path | str | None, offline: bool | None, files: Sequence[str]
) -> Path:
    """The folder with the files of a network.

    Args:
        name: of the network, for people.
        weights: what is published of it.
        folder_or_repo: a folder of weights (with a folder `weights.file` in it), the network's own folder, as a
            string also a repository of the hub ("owner/name"), or None: the published repository, in the cache or
            downloaded.
        offline: never download.
        files: patterns of the files that are needed.

    Raises:
        MissingFileError: it is not there, and cannot be downloaded.
    """
    if folder_or_repo is None:
        return _cached(name, weights, partial(_folder, weights.source, weights.revision, list(files)), offline)
    folder = Path(folder_or_repo)
    for path in (folder / weights.file, folder):
        if (path / "config.json").is_file():
            return path
    if folder.is_dir():
        raise MissingFileError(
            f"There is no {weights.file} in {folder}: the weights of {name} are missing. They come from "
            f"https://huggingface.co/{weights.source}."
        )
    if isinstance(folder_or_repo, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", folder_or_repo):
        other = replace(weights, source=folder_or_repo, revision="main")
        return _cached(name, other, partial(_folder, other.source, other.revision, list(files)), offline)
    raise MissingFileError(f"There is no folder {folder} with the weights of {name}.")


def find_file(name: str, weights: Weights, offline: bool | None) -> Path:
    """One published file, in the hub's cache or downloaded.

    Raises:
        MissingFileError: it is not there, and cannot be downloaded.
    """
    return _cached(name, weights, partial(_file, weights), offline)


def _folder(repository: str, revision: str | None, patterns: list[str], *, local_files_only: bool) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=local_files_only)


def _file(weights: Weights, *, local_files_only: bool) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(weights.source, weights.file, revision=weights.revision, local_files_only=local_files_only)


def _cached(name: str, weights: Weights, fetch: Callable[..., str], offline: bool | None) -> Path:
    """What `fetch` finds in the hub's cache, or else downloads."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(fetch(local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        if is_offline(offline):
            raise not_here(name, weights, "downloads are switched off") from None
    announce(name, weights)
    try:
        return Path(fetch(local_files_only=False))
    except Exception as error:  # the hub's client raises whatever its transport does
        raise not_here(name, weights, f"the download failed ({one_line(error)})") from None


def pretrained(kind: Any, path: Path, name: str, **options: Any) -> Any:
    """An object of the library from a folder.

    Raises:
        UserError: the folder does not hold it.
    """
    try:
        return kind.from_pretrained(path, local_files_only=True, **options)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} does not hold {name}: {one_line(error)}") from None


def unit(x: Tensor) -> Tensor:
    """Vectors (..., C) of length one."""
    return F.normalize(x.float(), dim=-1)


def tokens_of(prompts: Sequence[str], tokenizer: Any, device: torch.device) -> dict[str, Tensor]:
    """Prompts as tokens, padded to the longest."""
    tokens = tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
    return {key: tokens[key].to(device) for key in ("input_ids", "attention_mask")}
