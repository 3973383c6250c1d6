"""MM-CSE, the multimodal class-aware semantic enhancement network (AAAI 2025)."""

from dataclasses import replace

from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.decoupling import ClassAwareDecoupling, Decoupling, stack_modalities
from mmcse.models.enhancement import FGSELayer, FusionResidual
from mmcse.models.frontend import FrontEnd
from mmcse.models.pooling import ClasswiseHead


class MMCSE(nn.Module):
    """Holistic features, decoupled by class (CAFD), enhanced by L layers (FGSE), read by per-class heads.

    The defaults are the paper's network on CLAP/CLIP features. Every default follows the reference implementation;
    `visual_decoupler_linears=1` and `fusion_residual="enhanced"` are the paper's wording instead.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D, holistic width.
        class_dim: d, class-wise width.
        num_layers: L, FGSE layers.
        num_heads: H, heads of SECM; a divisor of d.
        feedforward_dim: inner width of an FGSE layer's feed-forward part.
        dropout: rate everywhere the network has dropout.
        decoupling: what CAFD decouples (Table 2).
        secm: whether FGSE has its SECM blocks (Table 3).
        lgsf: whether FGSE has its LGSF blocks (Table 3).
        intra: whether FGSE relates classes within a modality (Table 3).
        cross: whether FGSE relates classes across modalities (Table 3).
        visual_decoupler_linears: linear layers in a visual decoupler.
        fusion_residual: what LGSF adds the video feature to.

    Raises:
        UserError: an impossible combination of arguments.
    """

    def __init__(
        self,
        audio_dim: int = 768,
        visual_dim: int = 768,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 256,
        class_dim: int = 128,
        num_layers: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        decoupling: Decoupling = "events+background",
        secm: bool = True,
        lgsf: bool = True,
        intra: bool = True,
        cross: bool = True,
        visual_decoupler_linears: int = 2,
        fusion_residual: FusionResidual = "input",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise UserError(f"MM-CSE needs at least one FGSE layer; num_layers is {num_layers}.")
        if class_dim % num_heads:
            raise UserError(f"class_dim ({class_dim}) must be a multiple of num_heads ({num_heads}).")
        if not (intra or cross):
            raise UserError("intra and cross are both off: an FGSE layer would have nothing to compute.")
        if fusion_residual not in ("input", "enhanced"):
            raise UserError(f"fusion_residual is {fusion_residual!r}; expected 'input' or 'enhanced'.")
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.audio_decoupling, self.visual_decoupling = (
            ClassAwareDecoupling(hidden_dim, class_dim, num_classes, decoupling, num_linears, dropout)
            for num_linears in (1, visual_decoupler_linears)
        )
        self.layers = nn.ModuleList(
            FGSELayer(
                class_dim,
                num_heads,
                feedforward_dim,
                dropout,
                secm=secm,
                lgsf=lgsf,
                intra=intra,
                cross=cross,
                residual=fusion_residual,
            )
            for _ in range(num_layers)
        )
        self.head = ClasswiseHead(num_classes, class_dim)
        self.decoupling: Decoupling = decoupling
        self.is_full = decoupling == "events+background" and secm and lgsf and intra and cross

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: also compute what only losses and figures need: maps of the last layer, decoupled features
                and, from them, the reconstruction.

        Returns:
            The output; its auxiliary fields are None where not asked for, or where an ablation lacks them.
        """
        return self.parse(*self.front_end(audio, visual, motion), auxiliary=auxiliary)

    def parse(self, holistic_audio: Tensor, holistic_visual: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """`forward` from holistic features on, each (B, T, D)."""
        decoupled_audio = self.audio_decoupling(holistic_audio)
        decoupled_visual = self.visual_decoupling(holistic_visual)

        tokens = stack_modalities(decoupled_audio.tokens, decoupled_visual.tokens)  # (B, T, 2, K, d)
        maps: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers, start=1):
            tokens, maps = layer(tokens, need_maps=auxiliary and index == len(self.layers))
        out = self.head(tokens)
        if not auxiliary:
            return out

        out = replace(out, cooccurrence=maps or None)
        if self.decoupling == "none":
            return out
        features = stack_modalities(decoupled_audio.features, decoupled_visual.features)  # (B, T, 2, F, d)
        with_background = self.decoupling == "events+background"
        return replace(
            out,
            holistic=stack_modalities(holistic_audio, holistic_visual),
            reconstruction=stack_modalities(
                self.audio_decoupling.reconstruct(decoupled_audio.features),
                self.visual_decoupling.reconstruct(decoupled_visual.features),
            ),
            event_features=features[..., :-1, :] if with_background else features,
            background_features=features[..., -1, :] if with_background else None,
        )
