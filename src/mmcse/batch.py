"""The two containers that travel through the suite, and the legend of shapes.

Legend, used in every comment and docstring:

    B  videos of a batch        N  videos of a split, or stored tokens of a stream
    T  segments of a video      K  classes of events
    M  modalities (2): index 0 is audio, 1 is visual
    C  width of a stored feature   D  holistic width   d  class-wise width
    H  attention heads          L  layers
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Videos as the data module serves them.

    Features are floating point; labels are 0/1 in the same floating dtype, ready for a loss.
    """

    audio: Tensor
    """(B, N, C) audio features; N is T, or the stored token count of the stream."""
    visual: Tensor
    """(B, N, C) appearance features of frames."""
    motion: Tensor
    """(B, T, C) motion features (R(2+1)D)."""
    weak: Tensor
    """(B, K) video-level labels: the event occurs somewhere, in some modality."""
    weak_audio: Tensor | None = None
    """(B, K) the weak labels that a method's refinement left to the audio track, where there is one."""
    weak_visual: Tensor | None = None
    """(B, K) the weak labels left to the visual track."""
    pseudo_audio: Tensor | None = None
    """(B, T, K) segment-level pseudo labels of the audio track."""
    pseudo_visual: Tensor | None = None
    """(B, T, K) segment-level pseudo labels of the visual track."""
    true_audio: Tensor | None = None
    """(B, T, K) annotated audible events, where the split is annotated densely."""
    true_visual: Tensor | None = None
    """(B, T, K) annotated visible events."""
    ids: tuple[str, ...] = ()
    """The B video ids."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Copy with every tensor sent through `Tensor.to` (device, dtype, non_blocking)."""
        return self._with_tensors(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """Copy with every tensor in page-locked memory."""
        return self._with_tensors(Tensor.pin_memory)

    def split(self, size: int) -> list[Self]:
        """Batches of `size` videos, in order; the last one may be shorter."""
        return [self._rows(slice(start, start + size)) for start in range(0, len(self), size)]

    def _rows(self, rows: slice) -> Self:
        return replace(self._with_tensors(lambda tensor: tensor[rows]), ids=self.ids[rows])

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return replace(self, **{name: change(value) for name, value in values if isinstance(value, Tensor)})

    def __len__(self) -> int:
        return len(self.weak)


@dataclass(frozen=True, kw_only=True)
class ParserOutput:
    """What a network says about a batch of videos.

    The first four fields are what every network gives; the rest exists where the network has it.
    """

    segment_logits: Tensor
    """(B, T, 2, K) logit that an event is audible (index 0) or visible (index 1) in a segment."""
    video_prob: Tensor
    """(B, K) video-level probability, pooled over segments and modalities; may exceed one."""
    audio_prob: Tensor
    """(B, K) probability pooled over the audio segments."""
    visual_prob: Tensor
    """(B, K) probability pooled over the visual segments."""

    cooccurrence: dict[str, Tensor] | None = None
    """Co-occurrence maps of the last layer, each (B, T, K, K); "av" has audio queries and visual keys."""
    holistic: Tensor | None = None
    """(B, T, 2, D) holistic segment features, before decoupling."""
    reconstruction: Tensor | None = None
    """(B, T, 2, D) holistic features rebuilt from the decoupled ones."""
    event_features: Tensor | None = None
    """(B, T, 2, K, d) decoupled features of the events."""
    background_features: Tensor | None = None
    """(B, T, 2, d) decoupled features of the background."""

    @property
    def segment_prob(self) -> Tensor:
        """(B, T, 2, K) segment-level probabilities."""
        return self.segment_logits.sigmoid()
