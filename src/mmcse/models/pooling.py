"""Event parser: attentive multi-modal multi-instance (MMIL) pooling (HAN, section 4.3) and per-class heads."""

from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.models.classwise import ClassLinear
from mmcse.models.linear import Linear


def mmil_pooling(segment_logits: Tensor, temporal: Tensor, modality: Tensor) -> ParserOutput:
    """Pool segment probabilities to video level by attention over segments and over modalities.

    Args:
        segment_logits: (B, T, 2, K) logits of the events.
        temporal: (B, T, 2, K) scores whose softmax over T weighs the segments.
        modality: (B, T, 2, K) scores whose softmax over the two modalities weighs the modalities.

    Returns:
        The output with its three video-level probabilities. The weights of the video probability sum to more than one
        in general, so it is not bounded by one.
    """
    weighted = segment_logits.sigmoid() * temporal.softmax(dim=1)  # (B, T, 2, K)
    audio_prob, visual_prob = weighted.sum(dim=1).unbind(dim=1)
    # one axis at a time: of a sum over both, PyTorch 2.13's compiler makes code that writes past the end of its result
    video_prob = (weighted * modality.softmax(dim=2)).sum(dim=1).sum(dim=1)
    return ParserOutput(
        segment_logits=segment_logits, video_prob=video_prob, audio_prob=audio_prob, visual_prob=visual_prob
    )


class ClasswiseHead(nn.Module):
    """Three linears d -> 1 per class, shared by the modalities: event, temporal attention, modality attention."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.linear = ClassLinear(num_classes, dim, 3)

    def forward(self, tokens: Tensor) -> ParserOutput:
        """Class tokens (B, T, 2, K, d) to the output."""
        return mmil_pooling(*self.linear(tokens).unbind(dim=-1))


class HolisticHead(nn.Module):
    """Three linears D -> K on holistic features, shared by the modalities: event, temporal and modality attention."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.event = Linear(dim, num_classes)
        self.temporal = Linear(dim, num_classes)
        self.modality = Linear(dim, num_classes)

    def forward(self, features: Tensor) -> ParserOutput:
        """Holistic features (B, T, 2, D) to the output."""
        return mmil_pooling(self.event(features), self.temporal(features), self.modality(features))
