"""Stored tokens to segments: the fixed linear maps between a stream's own time axis and T segments.

Interpolating and pooling along time are linear and their weights sum to one, so they commute with the linear layer
that follows. A stored stream of N tokens therefore becomes T segments by one (T, N) matrix, which can be applied when
the data is prepared or, with the same result, inside the network.
"""

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.errors import UserError

Resampling = Literal["frames", "clap_map"]

CLAP_FREQUENCY_ROWS = 2
"""Rows of HTSAT's last feature map; its tokens are stored row by row."""
CLAP_UPSAMPLING = 32
"""Factor by which HTSAT's time axis was reduced, undone before pooling."""


@lru_cache(maxsize=32)
def resampling_matrix(how: Resampling, tokens: int, segments: int) -> Tensor:
    """The (T, N) matrix that turns N stored tokens into T segments.

    Args:
        how: "frames" averages runs of N/T consecutive tokens (ResNet-152: 80 frames); "clap_map" reads the tokens as
            CLAP's map of 2 frequency rows by N/2 time steps, up-samples time 32-fold (bicubic), averages the rows and
            pools to T segments.
        tokens: N. Where N equals T the tokens are segments already, and the matrix is the identity.
        segments: T.

    Returns:
        (T, N) in float64, on the CPU; rows sum to one. Shared between callers: do not change it in place.

    Raises:
        UserError: N tokens cannot be read that way.
    """
    if tokens == segments:
        return torch.eye(tokens, dtype=torch.float64)
    if how == "frames":
        if tokens % segments:
            raise UserError(
                f"A visual stream has {tokens} frames per video, which do not divide into {segments} segments. "
                f"Expected {segments} or a multiple of it."
            )
        return torch.eye(segments, dtype=torch.float64).repeat_interleave(tokens // segments, 1) * segments / tokens
    if tokens % CLAP_FREQUENCY_ROWS:
        raise UserError(
            f"An audio stream has {tokens} tokens per video. Expected {segments} (one per segment), or CLAP's "
            f"feature map with {CLAP_FREQUENCY_ROWS} rows (64 tokens for a clip of 10 seconds)."
        )
    steps = tokens // CLAP_FREQUENCY_ROWS
    basis = torch.eye(tokens, dtype=torch.float64).view(1, tokens, CLAP_FREQUENCY_ROWS, steps)
    size = (CLAP_FREQUENCY_ROWS, steps * CLAP_UPSAMPLING)
    fine = F.interpolate(basis, size=size, mode="bicubic", align_corners=False)
    return F.adaptive_avg_pool1d(fine.mean(dim=2), segments)[0].T.contiguous()
