"""MM-CSE on MM-Pyramid's encoder, the last row of Table 7: the encoder that LEAP is reported with.

The paper does not say how the two are wired. Here the encoder stands where nothing stood before, between the front end
and CAFD, and its streams, audio and visual in the straight order, are what CAFD splits by class. Everything after it is
MM-CSE as it was, but that the decoders have to rebuild what the front end gave, not what the encoder made of it: an
encoder whose own output has to be rebuilt can make that easy by saying little.
"""

from dataclasses import replace

from torch import Tensor

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.decoupling import Decoupling, stack_modalities
from mmcse.models.enhancement import FusionResidual
from mmcse.models.mmcse import MMCSE
from mmcse.models.mmpyramid import PyramidEncoder
from mmcse.models.reference import Names, reference_names


class MMCSEPyramid(MMCSE):
    """MM-CSE whose features MM-Pyramid's encoder has seen before CAFD decouples them.

    The defaults are those of the two networks, on VGGish/ResNet-152 features; the width D is the encoder's.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D, holistic width.
        class_dim: d, class-wise width.
        num_layers: L, FGSE layers.
        num_heads: H, heads of SECM and of the encoder; a divisor of d and D.
        feedforward_dim: inner width of the feed-forward parts of FGSE and encoder.
        dropout: rate in MM-CSE's parts.
        num_levels: levels of the pyramid; level i has the window and the dilation 2^i.
        pyramid_attention_dropout: on the encoder's attention weights.
        pyramid_dropout: rate in the encoder's other parts.
        decoupling: what CAFD decouples.
        visual_decoupler_linears: linear layers in a visual decoupler.
        fusion_residual: what LGSF adds the video feature to.

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
        class_dim: int = 128,
        num_layers: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        num_levels: int = 4,
        pyramid_attention_dropout: float = 0.1,
        pyramid_dropout: float = 0.2,
        decoupling: Decoupling = "events+background",
        visual_decoupler_linears: int = 2,
        fusion_residual: FusionResidual = "input",
    ) -> None:
        super().__init__(
            audio_dim,
            visual_dim,
            motion_dim,
            num_classes,
            num_segments,
            hidden_dim,
            class_dim,
            num_layers,
            num_heads,
            feedforward_dim,
            dropout,
            decoupling,
            visual_decoupler_linears=visual_decoupler_linears,
            fusion_residual=fusion_residual,
        )
        self.encoder = PyramidEncoder(
            hidden_dim, num_levels, num_heads, feedforward_dim, pyramid_attention_dropout, pyramid_dropout
        )

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """As `MMCSE.forward`; the output's holistic features are those of the front end."""
        projected = self.front_end(audio, visual, motion)
        out = self.parse(*self.encoder(*projected), auxiliary=auxiliary)
        return out if out.holistic is None else replace(out, holistic=stack_modalities(*projected))


@reference_names.register
def _(network: MMCSEPyramid) -> Names:
    raise UserError("There is no reference implementation of MM-CSE on MM-Pyramid's encoder.")
