"""A linear probe: what the features tell about a segment that is looked at on its own."""

from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.pooling import HolisticHead


class LinearProbe(nn.Module):
    """Front end and head without anything between them: no segment, class or modality sees another one.

    Its segment probabilities are those of a logistic regression of rank D. Only pooling to video level looks at the
    whole video. What a network adds to this floor is what its relations between segments, classes and modalities are
    worth.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
    """

    def __init__(
        self,
        audio_dim: int = 768,
        visual_dim: int = 768,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.head = HolisticHead(num_classes, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> ParserOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: this network has no output beyond its predictions.
        """
        return self.head(stack_modalities(*self.front_end(audio, visual, motion)))
