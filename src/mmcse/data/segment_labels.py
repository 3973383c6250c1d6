"""Labels of segments that a method makes for the training videos: a folder with two arrays.

`segment_audio.npy` and `segment_visual.npy` hold (N, T, K) numbers from 0 to 1 for the N training videos in the order
of the bank. LSLD's are soft.
"""

import os
from pathlib import Path

import numpy as np

from mmcse.data.npy import read_array
from mmcse.errors import MissingFileError, UserError

FILES = ("segment_audio.npy", "segment_visual.npy")


def read_segment_labels(folder: str | os.PathLike[str], shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read the labels of audio and visual.

    Args:
        folder: where the two files lie.
        shape: (N, T, K) of the data.

    Returns:
        (N, T, K) float32 each.

    Raises:
        MissingFileError: a file is not there.
        UserError: a file is damaged, of another shape, or holds anything but numbers from 0 to 1.
    """
    audio, visual = (_read(Path(folder) / name, shape) for name in FILES)
    return audio, visual


def _read(file: Path, shape: tuple[int, int, int]) -> np.ndarray:
    if not file.is_file():
        raise MissingFileError(f"There is no file {file}. Expected segment labels of the training videos.")
    labels = read_array(file)
    if labels.shape != shape or labels.dtype.kind not in "fbiu":
        raise UserError(
            f"{file} holds {labels.dtype} of shape {labels.shape}; expected numbers of shape {shape}: training videos, "
            "segments, classes."
        )
    labels = labels.astype(np.float32)
    if not ((labels >= 0) & (labels <= 1)).all():
        raise UserError(f"{file} holds numbers outside 0 to 1; expected labels.")
    return labels
