"""Front end: stored features of the three streams to holistic segment features (paper, section 4.1)."""

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.linear import Linear
from mmcse.resampling import Resampling, resampling_matrix


class FrontEnd(nn.Module):
    """Projects the audio stream, and fuses the two visual streams, to one width; no activation anywhere.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        hidden_dim: D.
        num_segments: T.
    """

    def __init__(self, audio_dim: int, visual_dim: int, motion_dim: int, hidden_dim: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.audio = Linear(audio_dim, hidden_dim)
        self.visual = Linear(visual_dim, hidden_dim)
        self.motion = Linear(motion_dim, hidden_dim)
        self.fusion = Linear(2 * hidden_dim, hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the three streams, each (B, N, C), to audio and visual holistic features, each (B, T, D).

        Raises:
            UserError: a stream's N is neither T nor a token count that can be resampled to T, or videos have another T.
        """
        check_segments(audio, motion, self.num_segments)
        audio = self.audio(to_segments(audio, "clap_map", self.num_segments))
        visual = self.visual(to_segments(visual, "frames", self.num_segments))
        motion = self.motion(to_segments(motion, "frames", self.num_segments))
        return audio, self.fusion(torch.cat((visual, motion), dim=-1))


def check_segments(audio: Tensor, motion: Tensor, num_segments: int) -> None:
    """Refuse videos of another number of segments than a network's, where they would pass for stored tokens.

    An even number of audio segments could also be CLAP's feature map, and a multiple of T frames; but motion features
    are never stored but one per segment.

    Raises:
        UserError: both streams have the same other number.
    """
    if audio.shape[1] == motion.shape[1] != num_segments:
        raise UserError(
            f"These videos have {motion.shape[1]} segments in audio and motion, and the network was built for "
            f"{num_segments}. Build it with num_segments={motion.shape[1]}."
        )


def to_segments(stream: Tensor, how: Resampling, num_segments: int) -> Tensor:
    """(B, N, C) to (B, T, C); resampling commutes with a linear layer, and is cheaper before it.

    Raises:
        UserError: N is neither T nor a token count that can be resampled to T.
    """
    tokens = stream.shape[1]
    if tokens == num_segments:
        return stream
    return resampling_matrix(how, tokens, num_segments).to(stream) @ stream
