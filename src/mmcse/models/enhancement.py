"""FGSE, fine-grained semantic enhancement (paper, section 3.2): relations of classes, and of segments with the video.

Tokens are (B, T, 2, K, d): the K class tokens of each segment, both modalities side by side. One layer serves both
modalities and all four directions: the own modality is `tokens`, the other one is `tokens.flip(MODALITY)`.
"""

from typing import Literal, Self

import torch
from torch import Tensor, nn

from mmcse.models.attention import Attention
from mmcse.models.feedforward import FeedForward
from mmcse.models.linear import Linear
from mmcse.models.merged import KeptWeights, Shares, merged_shares
from mmcse.models.similarity import relu_cosine

MODALITY = 2
"""The axis of the two modalities in class tokens and maps."""
TIME = 1

FusionResidual = Literal["input", "enhanced"]
"""What LGSF adds its video feature to: the layer's input (reference code), or SECM's output (the paper's words)."""


class SECM(nn.Module):
    """Segment-wise event co-occurrence modelling (equation 3): attention among the K classes of a segment.

    Args:
        dim: d.
        num_heads: H, a divisor of d.
        dropout: on the attention weights.
        cross: keys and values come from the other modality's tokens.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float, *, cross: bool) -> None:
        super().__init__()
        self.cross = cross
        self.attention = Attention(dim, num_heads, dropout)

    def forward(self, tokens: Tensor, need_map: bool) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, 2, K, d) to enhanced tokens S of that shape, and the co-occurrence map (B, T, 2, K, K).

        The map is the mean over heads; its rows (queries) sum to one, up to dropout while training: as in PyTorch's
        own attention, the map is what the values were really weighted with.
        """
        context = tokens.flip(MODALITY) if self.cross else tokens
        attended, cooccurrence = self.attention(tokens, context, need_map)
        return tokens + attended, cooccurrence


class LGSF(nn.Module):
    """Local-global semantic fusion (equation 4): each class token takes in its class's feature of the whole video.

    Args:
        dim: d.
        cross: the video feature comes from the other modality, and one linear layer serves segment and video.
        residual: what the video feature is added to.
    """

    def __init__(self, dim: int, *, cross: bool, residual: FusionResidual) -> None:
        super().__init__()
        self.cross, self.residual = cross, residual
        self.segment = Linear(dim, dim)
        self.video = None if cross else Linear(dim, dim)

    def forward(self, tokens: Tensor, enhanced: Tensor) -> Tensor:
        """Input tokens and SECM's enhanced ones, both (B, T, 2, K, d), to tokens U of that shape."""
        source, to_video = (tokens, self.segment) if self.video is None else (enhanced, self.video)
        video = to_video(source).relu().mean(dim=TIME, keepdim=True)  # (B, 1, 2, K, d)
        if self.cross:
            video = video.flip(MODALITY)
        relevance = relu_cosine(self.segment(enhanced), video, shared=TIME).sigmoid()
        return torch.addcmul(tokens if self.residual == "input" else enhanced, relevance, video)


class Enhancement(nn.Module):
    """One of the two modes of FGSE, intra- or cross-modal: SECM, then LGSF, then the mode's linear layer P."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float,
        *,
        cross: bool,
        secm: bool,
        lgsf: bool,
        residual: FusionResidual,
    ) -> None:
        super().__init__()
        self.secm = SECM(dim, num_heads, dropout, cross=cross) if secm else None
        self.lgsf = LGSF(dim, cross=cross, residual=residual) if lgsf else None
        self.projection = Linear(dim, dim)

    def forward(self, tokens: Tensor, need_map: bool) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, 2, K, d) to this mode's share of the update, and its map where SECM exists."""
        enhanced, cooccurrence = (tokens, None) if self.secm is None else self.secm(tokens, need_map)
        fused = enhanced if self.lgsf is None else self.lgsf(tokens, enhanced)
        return self.projection(fused), cooccurrence


class FGSELayer(nn.Module):
    """One FGSE layer (equation 5). Both modalities are updated from the layer's old tokens, simultaneously."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        *,
        secm: bool,
        lgsf: bool,
        intra: bool,
        cross: bool,
        residual: FusionResidual,
    ) -> None:
        super().__init__()
        shared = {"secm": secm, "lgsf": lgsf, "residual": residual}
        self.intra = Enhancement(dim, num_heads, dropout, cross=False, **shared) if intra else None
        self.cross = Enhancement(dim, num_heads, dropout, cross=True, **shared) if cross else None
        self.is_merged = secm and lgsf and intra and cross and residual == "input"
        """Whether it is computed as `mmcse.models.merged` does, which gives the same sooner."""
        self.kept_weights = KeptWeights()
        self.norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)

    def train(self, mode: bool = True) -> Self:
        """As of any module; training may change weights in ways that cannot be seen afterwards."""
        if mode:
            self.kept_weights.forget()
        return super().train(mode)

    def forward(self, tokens: Tensor, need_maps: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Tokens (B, T, 2, K, d) to new tokens, and the maps that were asked for and exist, each (B, T, K, K)."""
        fused, *maps = merged_shares(self, tokens, need_maps) if self.is_merged else self._shares(tokens, need_maps)
        by_name = {}
        for cooccurrence, names in zip(maps, (("aa", "vv"), ("av", "va")), strict=True):
            if cooccurrence is not None:
                by_name |= dict(zip(names, cooccurrence.unbind(MODALITY), strict=True))
        return self.feedforward(self.norm(fused)), by_name

    def _shares(self, tokens: Tensor, need_maps: bool) -> Shares:
        """P1 U1 + P2 U2 of the modes there are, as the paper computes it."""
        (intra, intra_map), (cross, cross_map) = (
            (None, None) if mode is None else mode(tokens, need_maps) for mode in (self.intra, self.cross)
        )
        shares = [share for share in (intra, cross) if share is not None]
        return shares[0] if len(shares) == 1 else shares[0] + shares[1], intra_map, cross_map
