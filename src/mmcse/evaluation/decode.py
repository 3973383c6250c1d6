"""From probabilities to decisions: which event is heard and seen in which segment."""

from typing import Literal, get_args

import torch
from torch import Tensor

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.vocabulary import near_miss

Gate = Literal["video/video", "audio/visual", "video/visual", "none"]
"""Which video-level probability must pass before a class is allowed in the audio / visual segments.

HAN and VALOR use `video/video`; JoMoLD, CMPAE and LSLD `audio/visual`; MM-CSE `video/visual`.
"""


def decode(
    segment_prob: Tensor,
    video_prob: Tensor,
    audio_prob: Tensor,
    visual_prob: Tensor,
    *,
    gate: Gate,
    threshold: float | Tensor = 0.5,
    gate_threshold: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Decide which events are present in each segment (evaluation protocol of LLP, step 1).

    An event is present where its segment-level probability and the video-level probability that gates its
    modality both reach their thresholds.

    Args:
        segment_prob: (B, T, 2, K) segment-level probabilities, audio first.
        video_prob: (B, K) probabilities pooled over segments and modalities.
        audio_prob: (B, K) probabilities pooled over the audio segments.
        visual_prob: (B, K) probabilities pooled over the visual segments.
        gate: the video-level probabilities that gate audio and visual segments, see `Gate`.
        threshold: least segment-level probability, one for all classes or (K,).
        gate_threshold: least video-level probability.

    Returns:
        Boolean decisions for audio and visual, each (B, T, K).

    Raises:
        UserError: the gate is unknown, or the thresholds are neither one number nor (K,).
    """
    K = segment_prob.shape[-1]
    if isinstance(threshold, Tensor):
        if threshold.shape not in ((), (1,), (K,)):
            raise UserError(
                f"Thresholds have shape {tuple(threshold.shape)}; expected one number, or one for each of the "
                f"{K} classes."
            )
        threshold = threshold.to(segment_prob.device)
    present = segment_prob >= threshold
    pred_audio, pred_visual = present.unbind(dim=2)
    if gate == "none":
        return pred_audio, pred_visual
    if gate not in get_args(Gate):
        raise UserError(
            f"Unknown gate {gate!r}.{near_miss(gate, get_args(Gate))} Choose one of {', '.join(get_args(Gate))}."
        )
    video_level = {"video": video_prob, "audio": audio_prob, "visual": visual_prob}
    audio_gate, visual_gate = (video_level[name] >= gate_threshold for name in gate.split("/"))
    return pred_audio & audio_gate[:, None], pred_visual & visual_gate[:, None]


@torch.no_grad()
def decode_output(
    output: ParserOutput, *, gate: Gate, threshold: float | Tensor = 0.5, gate_threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Decode what a network says about a batch; arguments and result as in `decode`."""
    return decode(
        output.segment_prob,
        output.video_prob,
        output.audio_prob,
        output.visual_prob,
        gate=gate,
        threshold=threshold,
        gate_threshold=gate_threshold,
    )
