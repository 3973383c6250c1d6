"""Attention inside windows over time, and a level of LFAV's pyramid of windows."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmcse.models.attention import Attention
from mmcse.models.dropout import Dropout

Roll = Literal["one", "half_window"]
"""How far the second pass moves the windows: by one position (as released), or by half of their length."""


class WindowAttention(nn.Module):
    """Attention inside windows, twice with the same weights: as they lie, and with the windows moved along.

    A pre-norm is shared by queries and context; a post-norm follows the sum with the raw queries.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        window: W, positions of a window.
        dropout: on the attention weights, and on what was gathered.
        roll: how far the windows move for the second pass.
    """

    def __init__(self, dim: int, num_heads: int, window: int, dropout: float, roll: Roll) -> None:
        super().__init__()
        self.window, self.shift = window, 1 if roll == "one" else window // 2
        self.pre_norm, self.post_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, dropout)
        self.attention.in_proj.reset_parameters()  # the start of plain linear layers, not of PyTorch's attention
        self.attention.out_proj.reset_parameters()
        self.dropout = Dropout(dropout)

    def forward(self, segments: Tensor, context: Tensor | None = None) -> Tensor:
        """Segments (..., T, D) to new ones, from a context (..., T, D); None makes it self attention."""
        segments = self._inside_windows(segments, context)
        rolled = None if context is None else context.roll(-self.shift, dims=-2)
        return self._inside_windows(segments.roll(-self.shift, dims=-2), rolled).roll(self.shift, dims=-2)

    def _inside_windows(self, segments: Tensor, context: Tensor | None) -> Tensor:
        windows = self._cut(self.pre_norm(segments))
        of_context = windows if context is None else self._cut(self.pre_norm(context))
        gathered = self.attention(windows, of_context)[0].flatten(-3, -2)[..., : segments.shape[-2], :]
        return self.post_norm(self.dropout(gathered) + segments)

    def _cut(self, segments: Tensor) -> Tensor:
        """(..., T, D) to (..., windows, W, D); the last window is completed by the last segments once more."""
        length = segments.shape[-2]
        missing = -length % self.window
        return torch.cat((segments, segments[..., length - missing :, :]), dim=-2).unflatten(-2, (-1, self.window))


class WindowLevel(nn.Module):
    """Windows of one length: each modality on its own, then each from the other one, with one cross module for both."""

    def __init__(self, dim: int, num_heads: int, window: int, dropout: float, roll: Roll) -> None:
        super().__init__()
        self.audio, self.visual, self.cross = (WindowAttention(dim, num_heads, window, dropout, roll) for _ in range(3))

    def forward(self, segments: Tensor) -> Tensor:
        """(2, B, T, D) of audio and visual to the same shape."""
        audio, visual = segments
        segments = torch.stack((self.audio(audio), self.visual(visual)))
        return segments + self.cross(segments, segments.flip(0))
