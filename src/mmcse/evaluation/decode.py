"""From probabilities to decisions: which event is heard and seen in which segment."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.vocabulary import near_miss

Gate = Literal["video/video", "audio/visual", "video/visual", "none"]
"""Which video-level probability must pass before a class is allowed in the audio / visual segments.

MA, JoMoLD, DHHN, CMPAE, LSLD and LFAV use `audio/visual`, MM-CSE `video/visual`, all others `video/video`.
"""


def decode(
    segment_prob: Tensor,
    video_prob: Tensor,
    audio_prob: Tensor,
    visual_prob: Tensor,
    *,
    gate: Gate,
    threshold: float | Tensor = 0.5,
    gate_threshold: float | Tensor = 0.5,
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
        gate_threshold: least video-level probability, one number, one for each class (K,), or (2, K) for the classes
            in the audio and in the visual segments.

    Returns:
        Boolean decisions for audio and visual, each (B, T, K).

    Raises:
        UserError: the gate is unknown, or thresholds have another shape.
    """
    K = segment_prob.shape[-1]
    present = segment_prob >= _thresholds(threshold, segment_prob, ((), (1,), (K,)))
    pred_audio, pred_visual = present.unbind(dim=2)
    if gate == "none":
        return pred_audio, pred_visual
    if gate not in get_args(Gate):
        raise UserError(
            f"Unknown gate {gate!r}.{near_miss(gate, get_args(Gate))} Choose one of {', '.join(get_args(Gate))}."
        )
    video_level = {"video": video_prob, "audio": audio_prob, "visual": visual_prob}
    gate_prob = torch.stack([video_level[name] for name in gate.split("/")], dim=1)  # (B, 2, K)
    passed = gate_prob >= _thresholds(gate_threshold, gate_prob, ((), (1,), (K,), (2, K)))
    return pred_audio & passed[:, :1], pred_visual & passed[:, 1:]


def gate_thresholds(threshold: float, evaluation: Mapping[str, Any]) -> float | Tensor:
    """The thresholds of the gate, as `decode` takes them, of a method that has some of its own.

    Args:
        threshold: of the segments, and of the gate if nothing else is said.
        evaluation: what a checkpoint says; "gate_threshold" is one number, "visual_thresholds" has one for each class
            in the gate of the visual segments.
    """
    common = evaluation.get("gate_threshold")
    common = threshold if common is None else common
    if (visual := evaluation.get("visual_thresholds")) is None:
        return common
    return torch.tensor([[common] * len(visual), list(visual)], dtype=torch.float64)


def _thresholds(threshold: float | Tensor, prob: Tensor, shapes: tuple[tuple[int, ...], ...]) -> float | Tensor:
    """Thresholds that can be compared with a probability (..., K)."""
    if not isinstance(threshold, Tensor):
        return threshold
    if threshold.shape not in shapes:
        raise UserError(
            f"Thresholds have shape {tuple(threshold.shape)}; expected one number, or one for each of the "
            f"{prob.shape[-1]} classes{', in one or in both modalities' if len(shapes) > 3 else ''}."
        )
    return threshold.to(prob)


@torch.no_grad()
def decode_output(
    output: ParserOutput, *, gate: Gate, threshold: float | Tensor = 0.5, gate_threshold: float | Tensor = 0.5
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
