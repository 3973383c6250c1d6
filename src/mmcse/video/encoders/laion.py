"""LAION's own CLAP checkpoints: their parameters under the names that transformers gives them."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmcse.errors import UserError, one_line

_RENAMES = (
    (r"^module\.", ""),
    (r"^text_branch\.", "text_model."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"(blocks\.\d+\.)norm1\.", r"\1layernorm_before."),
    (r"(blocks\.\d+\.)norm2\.", r"\1layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"(blocks\.\d+\.)attn\.proj\.", r"\1attention.output.dense."),
    (r"(blocks\.\d+\.)attn\.", r"\1attention.self."),
)
_CONSTANTS = ("relative_position_index", "position_ids", "token_type_ids")
"""Ends of the names of buffers that are the same in every network."""


def read_laion_checkpoint(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a checkpoint, as transformers' ClapModel names them.

    What only LAION's training or its AudioSet classifier needs is left out.

    Args:
        path: such as 630k-fusion-best.pt.
        expected: state dict of the network that is to be filled; its buffers that no training changes are kept.

    Raises:
        UserError: the file cannot be read, or a parameter is missing or of another shape.
    """
    state = {name: value for old, tensor in _read(path).items() for name, value in _renamed(old, tensor)}
    constants = {
        name: value
        for name, value in expected.items()
        if name.endswith(("position_index", "position_ids", "token_type_ids"))
    }
    state = constants | {name: value for name, value in state.items() if name in expected}
    wrong = [name for name, value in expected.items() if name not in state or state[name].shape != value.shape]
    if wrong:
        raise UserError(
            f"{path} is not a checkpoint of CLAP with fusion (HTSAT-tiny, RoBERTa): {len(wrong)} parameters are "
            f"missing or misshapen, the first is {wrong[0]}. Expected 630k-fusion-best.pt of lukewys/laion_clap."
        )
    return state


def _renamed(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A parameter by its new name; queries, keys and values, which LAION keeps in one, by three."""
    for pattern, new in _RENAMES:
        name = re.sub(pattern, new, name)
    if ".qkv." not in name:
        return [(name, value)]
    return [(name.replace("qkv", part), x) for part, x in zip(("query", "key", "value"), value.chunk(3), strict=True)]


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict; the rest of the file is the state of the training, with a few numbers of NumPy's."""
    scalars = [
        (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
        np._core.multiarray.scalar,  # type: ignore[attr-defined]
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
    ]
    try:
        with torch.serialization.safe_globals(scalars):
            state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # whatever a damaged archive makes the unpickler say
        raise UserError(f"{path} is not a checkpoint of LAION's CLAP ({one_line(error)}). Fetch it again.") from None
