"""CAFD, class-aware feature decoupling (paper, section 3.1): one holistic feature to a feature per class.

A segment's holistic feature mixes all of its events. K+1 decouplers split it into a feature per event class and one
for the background; a learnt share of the background is then blended back into every event's feature.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.classwise import ClassLinear
from mmcse.models.dropout import Dropout
from mmcse.models.linear import Linear, linear

Decoupling = Literal["none", "events", "events+background"]
"""Rows 1, 2 and 3 of Table 2: a mixed feature, features of the events, features of events and background."""


class Decoupled(NamedTuple):
    """What CAFD makes of one modality's holistic features."""

    tokens: Tensor
    """(B, T, K, d) class tokens Z, background blended in."""
    features: Tensor
    """(B, T, F, d) decoupled features before blending; F is K+1 (background last), K, or 1 (nothing decoupled)."""


class Decoder(nn.Module):
    """Rebuilds the holistic feature from all decoupled ones (equation 8); needed by the reconstruction loss only."""

    training_only = True

    def __init__(self, num_features: int, class_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.first = Linear(num_features * class_dim, hidden_dim)
        self.second = Linear(hidden_dim, hidden_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F, d) to (B, T, D)."""
        return self.second(self.first(features.flatten(-2)).relu()).relu()


class BackgroundBlending(nn.Module):
    """Blends a segment's background into its event features by a weight learnt from the segment (equation 1)."""

    def __init__(self, hidden_dim: int, class_dim: int, dropout: float) -> None:
        super().__init__()
        self.weight_mlp = nn.Sequential(
            nn.ReLU(),
            Linear(hidden_dim, hidden_dim // 2),
            nn.ReLU(),
            Dropout(dropout),
            Linear(hidden_dim // 2, 1),
        )
        self.merge = Linear(2 * class_dim, class_dim)

    def forward(self, holistic: Tensor, events: Tensor, background: Tensor) -> Tensor:
        """Holistic (B, T, D), events (B, T, K, d) and background (B, T, d) to class tokens (B, T, K, d)."""
        alpha = self.weight_mlp(holistic).sigmoid()  # (B, T, 1), shared by the classes
        # W [p; q] = W1 p + W2 q: the background's half is computed once per segment, not once per class
        of_event, of_background = self.merge.weight.chunk(2, dim=1)
        shared = linear((1 - alpha) * background, of_background, self.merge.bias)
        return (linear(alpha.unsqueeze(-1) * events, of_event) + shared.unsqueeze(-2)).relu()


class ClassAwareDecoupling(nn.Module):
    """CAFD of one modality.

    Args:
        hidden_dim: D.
        class_dim: d.
        num_classes: K.
        decoupling: "events+background" is the paper's full model; "events" has no background and no blending; "none"
            is one shared projection whose mixed feature every class token carries.
        num_linears: linear layers in each decoupler: in the reference 1 for audio and 2 for visual.
        dropout: between the two linear layers, and in the blending weight's MLP.

    Raises:
        UserError: an unknown `decoupling`, or `num_linears` other than 1 and 2.
    """

    def __init__(
        self,
        hidden_dim: int,
        class_dim: int,
        num_classes: int,
        decoupling: Decoupling = "events+background",
        num_linears: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        num_features = {"none": 1, "events": num_classes, "events+background": num_classes + 1}
        if decoupling not in num_features:
            raise UserError(f"decoupling is {decoupling!r}; expected one of {', '.join(map(repr, num_features))}.")
        if num_linears not in (1, 2):
            raise UserError(f"A decoupler has 1 or 2 linear layers, not {num_linears}.")
        self.num_classes, self.num_features, self.class_dim = num_classes, num_features[decoupling], class_dim
        # every decoupler reads the same feature, so their first layers are one linear layer
        self.first = Linear(hidden_dim, self.num_features * class_dim)
        self.second = ClassLinear(self.num_features, class_dim, class_dim) if num_linears == 2 else None
        self.dropout = Dropout(dropout)
        full = decoupling == "events+background"
        self.blending = BackgroundBlending(hidden_dim, class_dim, dropout) if full else None
        self.decoder = Decoder(self.num_features, class_dim, hidden_dim) if decoupling != "none" else None

    def forward(self, holistic: Tensor) -> Decoupled:
        """Holistic features (B, T, D) to class tokens and decoupled features."""
        features = self.first(holistic.relu()).relu().unflatten(-1, (self.num_features, self.class_dim))
        if self.second is not None:
            features = self.second(self.dropout(features)).relu()
        if self.blending is None:
            return Decoupled(features.expand(-1, -1, self.num_classes, -1), features)
        events, background = features[..., :-1, :], features[..., -1, :]
        return Decoupled(self.blending(holistic, events, background), features)

    def reconstruct(self, features: Tensor) -> Tensor:
        """Decoupled features (B, T, F, d) back to holistic ones (B, T, D)."""
        if self.decoder is None:
            raise ValueError("Nothing was decoupled, so there is nothing to reconstruct.")
        return self.decoder(features)


def stack_modalities(audio: Tensor, visual: Tensor) -> Tensor:
    """Two tensors (B, T, ...) to one (B, T, 2, ...): the layout in which modalities travel together."""
    return torch.stack((audio, visual), dim=2)
