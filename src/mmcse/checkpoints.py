"""Checkpoint files: written completely or not at all, read without running anything that lies in them."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mmcse.errors import MissingFileError, UserError, one_line
from mmcse.files import atomic_write
from mmcse.models.checkpoint_files import load_tensors


class CheckpointFiles(TorchCheckpointIO):
    """How a trainer writes and reads its checkpoints (a Lightning plugin).

    Lightning's own way copies a checkpoint from the folder for temporary files when that is another disk: killed in the
    middle, a run would be left with half a checkpoint and none before it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, completely or not at all.

        Raises:
            UserError: the disk is full or fails; the checkpoint before is untouched.
        """
        buffer = io.BytesIO()  # not the file itself: PyTorch hides what a full disk says
        torch.save(checkpoint, buffer)
        with atomic_write(path) as handle:
            handle.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint as `load_checkpoint`, whatever `weights_only` asks for."""
        return load_checkpoint(Path(path))


def load_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of this suite: tensors, numbers, text and containers of them, on the CPU.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is damaged or none of PyTorch's, or holds anything else.
    """
    if not file.exists():
        raise MissingFileError(f"There is no checkpoint at {file}.")
    try:
        checkpoint = load_tensors(file)
        if not isinstance(checkpoint, dict):
            raise ValueError(f"it holds a {type(checkpoint).__name__}, not a dictionary")
    except Exception as error:  # where a file is damaged decides what PyTorch raises
        raise UserError(f"{file} cannot be read as a checkpoint: {one_line(error)}") from error
    return checkpoint
