"""LSLD's network (Fan et al., NeurIPS 2023): a deep HAN on CLAP and CLIP embeddings, without motion.

What is new of the method are its labels; see `mmcse.objectives.lsld`.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.models.decoupling import stack_modalities
from mmcse.models.dropout import Dropout
from mmcse.models.frontend import FrontEnd, to_segments
from mmcse.models.hybrid import hybrid_layers, update_both
from mmcse.models.pooling import HolisticHead
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import Names, hybrid_names, norm_shapes, reference_names, unused_reference_names


class EmbeddingFrontEnd(nn.Module):
    """Projects audio and frames to one width; the motion stream is not read.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        hidden_dim: D.
        num_segments: T.
    """

    def __init__(self, audio_dim: int, visual_dim: int, hidden_dim: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.audio = nn.Linear(audio_dim, hidden_dim)
        self.visual = nn.Linear(visual_dim, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, C) to audio and visual holistic features, each (B, T, D).

        Raises:
            UserError: a stream's N is neither T nor a token count that can be resampled to T.
        """
        audio = self.audio(to_segments(audio, "clap_map", self.num_segments))
        return audio, self.visual(to_segments(visual, "frames", self.num_segments))


@known_by(
    "lsld",
    HYBRID_MARKS,
    HYBRID_MARKS | {"fc_st", "hat_encoder.layers.1"},
    sizes=HYBRID_SIZES
    | {
        "motion": lambda state: "fc_st.weight" in state,
        "motion_dim": lambda state: state["fc_st.weight"].shape[-1] if "fc_st.weight" in state else 512,  # not read
    },
)
class LSLD(nn.Module):
    """HAN with more layers, and dropout on the visual features that the event parser reads.

    The defaults are for CLAP (512 numbers a segment) and CLIP ViT-B/16 (512 numbers a frame). On VGGish, ResNet-152 and
    R(2+1)D the paper has six layers, and the front end of HAN (`motion`).

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
        motion: whether the motion stream is read and fused with the appearance.

    Raises:
        UserError: an impossible combination of arguments.
    """

    def __init__(
        self,
        audio_dim: int = 512,
        visual_dim: int = 512,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_layers: int = 4,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        class_dropout: float = 0.5,
        motion: bool = False,
    ) -> None:
        super().__init__()
        self.unread_streams = () if motion else ("motion",)  # fits a bank whatever their width there
        self.front_end = (
            FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
            if motion
            else EmbeddingFrontEnd(audio_dim, visual_dim, hidden_dim, num_segments)
        )
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout)
        self.class_dropout = Dropout(class_dropout)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features, not looked at by default.
            auxiliary: without effect: this network has no output beyond its predictions.
        """
        projected = stack_modalities(*self.front_end(audio, visual, motion))
        encoded_audio, encoded_visual = update_both(self.layers, projected).unbind(dim=2)
        return self.head(stack_modalities(encoded_audio, self.class_dropout(encoded_visual)))


@reference_names.register
def _(network: LSLD) -> Names:
    own = dict(network.named_parameters())
    return {ours: theirs for ours, theirs in hybrid_names(network).items() if ours in own}  # with or without motion


@unused_reference_names.register
def _(network: LSLD) -> Mapping[str, tuple[int, ...]]:
    return norm_shapes("hat_encoder", network.head.event.in_features)
