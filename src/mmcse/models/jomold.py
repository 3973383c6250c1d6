"""JoMoLD's network (Cheng et al., ECCV 2022): HAN, run with and without attention to the other modality.

What a modality finds when it is alone tells which of its labels are noise; see `mmcse.objectives.jomold`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmcse.models.decoupling import stack_modalities
from mmcse.models.dropout import Dropout
from mmcse.models.frontend import FrontEnd
from mmcse.models.hybrid import HybridOutput, hybrid_layers, update_both
from mmcse.models.pooling import HolisticHead
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import Names, hybrid_names, norm_shapes, reference_names, unused_reference_names


@dataclass(frozen=True, kw_only=True)
class JoMoLDOutput(HybridOutput):
    """A parsing, and for training the one of the same network without cross-attention."""

    unimodal: HybridOutput | None = None
    """The parsing in which no modality sees the other one; without gradient, with its own dropout."""


@known_by("jomold", HYBRID_MARKS | {"fc_st"}, sizes=HYBRID_SIZES)
class JoMoLD(nn.Module):
    """HAN with dropout on the visual features that the event parser reads.

    While training with cross-attention it also parses each batch without it (`JoMoLDOutput.unimodal`).

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_layers: L.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        dropout: rate inside the layers.
        class_dropout: rate on the encoded visual features before the event parser; audio has none.
        cross_attention: False for the estimator of label noise (first stage), which never lets a modality see the
            other one. It has the same parameters.

    Raises:
        UserError: an impossible combination of arguments.
    """

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_layers: int = 1,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        class_dropout: float = 0.5,
        cross_attention: bool = True,
    ) -> None:
        super().__init__()
        self.cross_attention = cross_attention
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout)
        self.class_dropout = Dropout(class_dropout)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> JoMoLDOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: while training, also parse without cross-attention.
        """
        projected = stack_modalities(*self.front_end(audio, visual, motion))
        unimodal = None
        if self.training and auxiliary and self.cross_attention:
            with torch.no_grad():
                unimodal = self._parse(projected, cross_attention=False)
        parsed = self._parse(projected, self.cross_attention)
        return JoMoLDOutput(**vars(parsed), unimodal=unimodal)

    def _parse(self, projected: Tensor, cross_attention: bool) -> HybridOutput:
        encoded = update_both(self.layers, projected, cross_attention=cross_attention)
        audio, visual = encoded.unbind(dim=2)
        parsed = self.head(stack_modalities(audio, self.class_dropout(visual)))
        return HybridOutput(**vars(parsed), projected=projected, encoded=encoded)


@reference_names.register
def _(network: JoMoLD) -> Names:
    return hybrid_names(network)


@unused_reference_names.register
def _(network: JoMoLD) -> Mapping[str, tuple[int, ...]]:
    return norm_shapes("hat_encoder", network.front_end.audio.out_features)
