"""The guides of DHHN: networks that see one modality, and are there to give another network targets."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmcse.models.frontend import to_segments
from mmcse.models.linear import Linear
from mmcse.models.reference import Names, linear_names, reference_names


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """What a guide says of its modality."""

    prob: Tensor
    """(B, K) video-level probabilities."""
    segment_logits: Tensor
    """(B, T, K)."""


class AudioProjection(nn.Module):
    """A guide's own front end of the audio stream."""

    def __init__(self, audio_dim: int, hidden_dim: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.audio = Linear(audio_dim, hidden_dim)

    def forward(self, audio: Tensor) -> Tensor:
        """(B, N, C) to (B, T, D)."""
        return self.audio(to_segments(audio, "clap_map", self.num_segments))


class VisualProjection(nn.Module):
    """A guide's own front end of the two visual streams."""

    def __init__(self, visual_dim: int, motion_dim: int, hidden_dim: int, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.visual, self.motion = Linear(visual_dim, hidden_dim), Linear(motion_dim, hidden_dim)
        self.fusion = Linear(2 * hidden_dim, hidden_dim)

    def forward(self, visual: Tensor, motion: Tensor) -> Tensor:
        """(B, N, C) each to (B, T, D)."""
        visual = self.visual(to_segments(visual, "frames", self.num_segments))
        motion = self.motion(to_segments(motion, "frames", self.num_segments))
        return self.fusion(torch.cat((visual, motion), dim=-1))


class Guide(nn.Module):
    """Sees one modality: transformer layers whose weights are used several times over, pooled by attention over time.

    Args:
        projection: features of the modality to (B, T, D).
        encoder: (B, T, D) to (B, T, D).
        repeats: how often x <- x + encoder(x) is applied.
        num_classes: K.
        dim: D.
    """

    training_only = True

    def __init__(
        self, projection: nn.Module, encoder: nn.TransformerEncoder, repeats: int, num_classes: int, dim: int
    ) -> None:
        super().__init__()
        self.projection, self.encoder, self.repeats = projection, encoder, repeats
        self.event, self.temporal = Linear(dim, num_classes), Linear(dim, num_classes)

    def forward(self, *streams: Tensor) -> Guidance:
        """Features of the modality, (B, N, C) each, to what the guide says of them."""
        segments = self.projection(*streams)
        for _ in range(self.repeats):
            segments = segments + self.encoder(segments)
        logits = self.event(segments)
        prob = (self.temporal(segments).softmax(dim=1) * logits.sigmoid()).sum(dim=1)
        return Guidance(prob=prob, segment_logits=logits)


@reference_names.register
def _(network: Guide) -> Names:
    projections = {"audio": "fc_a", "visual": "fc_v", "motion": "fc_st", "fusion": "fc_fusion"}
    names = linear_names("event", "fc_prob") | linear_names("temporal", "fc_frame_att")
    for ours, _ in network.projection.named_children():
        names |= linear_names(f"projection.{ours}", projections[ours])
    return names | {f"encoder.{name}": (f"audio_encoder.{name}",) for name, _ in network.encoder.named_parameters()}
