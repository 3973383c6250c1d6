"""DHHN, the dual hierarchical hybrid network (Jiang et al., ACM MM 2022).

Three networks are trained side by side. One looks at the video at three temporal scales and makes the predictions. The
other two, its guides, see one modality each and only give it targets. What is tested is a pair of copies of the first:
from the epoch in which it parsed audio best, and from the one in which it parsed visual best.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.guides import AudioProjection, Guidance, Guide, VisualProjection
from mmcse.models.hierarchical import PARSER_SIZES, AveragedOutput, HierarchicalContextNetwork
from mmcse.models.recognition import known_by
from mmcse.models.reference import Names, reference_names, unused_reference_names

Guides = Literal["both", "audio", "visual", "none"]
"""Which guides a DHHN is trained with."""


@dataclass(frozen=True, kw_only=True)
class DHHNOutput(AveragedOutput):
    """A parsing, and what the guides say of it."""

    audio_guide: Guidance | None = None
    visual_guide: Guidance | None = None


class DHHN(nn.Module):
    """The hierarchical context network, and for training its guides.

    The defaults are the released networks, on VGGish/ResNet-152 features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_heads: H of the hybrid attention layer, a divisor of D.
        feedforward_dim: inner width of every layer's feed-forward part.
        dropout: rate everywhere a layer has dropout.
        guide_heads: heads of the guides, a divisor of D.
        audio_guide_layers: layers of the audio guide.
        audio_guide_repeats: how often they are used.
        visual_guide_layers: layers of the visual guide.
        visual_guide_repeats: how often they are used.
        guides: which guides there are.

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
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        guide_heads: int = 8,
        audio_guide_layers: int = 1,
        audio_guide_repeats: int = 4,
        visual_guide_layers: int = 2,
        visual_guide_repeats: int = 3,
        guides: Guides = "both",
    ) -> None:
        super().__init__()
        if guides not in get_args(Guides):
            raise UserError(f"guides is {guides!r}; expected one of {', '.join(get_args(Guides))}.")
        if guide_heads < 1 or hidden_dim % guide_heads:
            raise UserError(f"hidden_dim ({hidden_dim}) must be a multiple of guide_heads ({guide_heads}).")
        for name, count in {"audio": audio_guide_layers, "visual": visual_guide_layers}.items():
            if count < 1:
                raise UserError(f"A guide needs at least one layer; {name}_guide_layers is {count}.")
        self.parser = HierarchicalContextNetwork(
            audio_dim,
            visual_dim,
            motion_dim,
            num_classes,
            num_segments,
            hidden_dim,
            num_heads,
            feedforward_dim,
            dropout,
        )

        def guide(projection: nn.Module, num_layers: int, repeats: int) -> Guide:
            layer = nn.TransformerEncoderLayer(hidden_dim, guide_heads, feedforward_dim, dropout, batch_first=True)
            encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)  # starts with equal layers
            return Guide(projection, encoder, repeats, num_classes, hidden_dim)

        self.audio_guide = self.visual_guide = None
        if guides in ("both", "audio"):
            of_audio = AudioProjection(audio_dim, hidden_dim, num_segments)
            self.audio_guide = guide(of_audio, audio_guide_layers, audio_guide_repeats)
        if guides in ("both", "visual"):
            of_visual = VisualProjection(visual_dim, motion_dim, hidden_dim, num_segments)
            self.visual_guide = guide(of_visual, visual_guide_layers, visual_guide_repeats)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> DHHNOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: also ask the guides.
        """
        parsed = self.parser(audio, visual, motion)
        return DHHNOutput(
            **vars(parsed),
            audio_guide=self.audio_guide(audio) if auxiliary and self.audio_guide is not None else None,
            visual_guide=self.visual_guide(visual, motion) if auxiliary and self.visual_guide is not None else None,
        )


@known_by(
    "dhhn",
    {"audio_net", "video_net"},
    sizes={name: (f"audio_net.{tensor}", axis) for name, (tensor, axis) in PARSER_SIZES.items()},
)
class DHHNPair(nn.Module):
    """The DHHN that is tested: one copy of the network parses audio, another one parses visual.

    Arguments as those of `DHHN`, without those of the guides.
    """

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.audio_parser, self.visual_parser = (
            HierarchicalContextNetwork(
                audio_dim,
                visual_dim,
                motion_dim,
                num_classes,
                num_segments,
                hidden_dim,
                num_heads,
                feedforward_dim,
                dropout,
            )
            for _ in range(2)
        )

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> AveragedOutput:
        """Parse a batch of videos; arguments as those of `DHHN.forward`, `auxiliary` without effect.

        Returns:
            What each copy says of its own modality. The video probability, which gates nothing here, is the mean of
            both copies' ones.
        """
        of_audio, of_visual = (parser(audio, visual, motion) for parser in (self.audio_parser, self.visual_parser))

        def each_of_its_own(of_audio: Tensor, of_visual: Tensor) -> Tensor:
            return stack_modalities(of_audio[:, :, 0], of_visual[:, :, 1])

        return AveragedOutput(
            segment_logits=each_of_its_own(of_audio.segment_logits, of_visual.segment_logits),
            segment_average=each_of_its_own(of_audio.segment_average, of_visual.segment_average),
            video_prob=(of_audio.video_prob + of_visual.video_prob) / 2,
            audio_prob=of_audio.audio_prob,
            visual_prob=of_visual.visual_prob,
        )


@reference_names.register
def _(network: DHHN) -> Names:
    """The authors save the parser only."""
    return {f"parser.{ours}": theirs for ours, theirs in reference_names(network.parser).items()}


@unused_reference_names.register
def _(network: DHHN) -> Mapping[str, tuple[int, ...]]:
    return unused_reference_names(network.parser)


@reference_names.register
def _(network: DHHNPair) -> Names:
    return {
        f"{module}.{ours}": tuple(f"{prefix}.{name}" for name in theirs)
        for module, prefix in {"audio_parser": "audio_net", "visual_parser": "video_net"}.items()
        for ours, theirs in reference_names(network.get_submodule(module)).items()
    }


@unused_reference_names.register
def _(network: DHHNPair) -> Mapping[str, tuple[int, ...]]:
    unused = unused_reference_names(network.audio_parser)
    return {f"{prefix}.{name}": shape for prefix in ("audio_net", "video_net") for name, shape in unused.items()}
