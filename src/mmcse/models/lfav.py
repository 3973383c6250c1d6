"""LFAV's event-centric network (Hou et al., ACM TOMM 2024): snippets, their events, and how events relate.

Stage 1 parses segments inside windows of growing length. What it finds makes a graph per class, along which stage 2
passes messages; stage 2's parsing is the result. Stage 3 relates the events with each other, and acts by its loss only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.linear import Linear
from mmcse.models.recognition import FRONT_END_SIZES, known_by
from mmcse.models.reference import (
    Names,
    linear_names,
    linears_names,
    reference_names,
    unused_reference_names,
)
from mmcse.models.transformer import ContextAttention
from mmcse.models.windows import Roll, WindowLevel


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """What a stage's head says."""

    logits: Tensor
    """(B, T, 2, K) logits of the segments."""
    weights: Tensor
    """(B, T, 2, K) weights of the segments, which sum to one over T."""
    prob: Tensor
    """(B, 2, K) probabilities of audio and visual."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of a batch: one for every video, modality and class of which stage 1 found a segment."""

    exists: Tensor
    """(B, 2, K) booleans."""
    prob: Tensor
    """(B, 2, K) probability of each event after stage 2; without meaning where there is none."""
    related_prob: Tensor
    """(B, 2, K) the same after stage 3."""
    reweighted_prob: Tensor
    """(B, 2, K) probability of each modality, its segments weighed by their likeness with the event of stage 3."""


@dataclass(frozen=True, kw_only=True)
class LFAVOutput(ParserOutput):
    """Stage 2's parsing, and what the losses of all stages need.

    LFAV has no video-level probability over both modalities; here it is the larger of the two.
    """

    first: Pooled
    """What stage 1 says."""
    active: Tensor
    """(B, T, 2, K) booleans: where stage 1 found an event."""
    first_features: Tensor
    """(B, T, 2, D) after stage 1."""
    features: Tensor
    """(B, T, 2, D) after stage 2."""
    events: Events | None = None


class TemporalHead(nn.Module):
    """Two linears D -> K, shared by the modalities: event, and attention over time."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.event, self.temporal = Linear(dim, num_classes), Linear(dim, num_classes)

    def forward(self, features: Tensor) -> Pooled:
        """Segment features (B, T, 2, D) to what they say of events."""
        logits, weights = self.event(features), self.temporal(features).softmax(dim=1)
        return Pooled(logits=logits, weights=weights, prob=(weights * logits.sigmoid()).sum(dim=1))


def snippet_edges(active: Tensor) -> Tensor:
    """The graphs of segments: each with itself, with its neighbours, and with all of its unbroken run of active ones.

    Args:
        active: (..., T) booleans.

    Returns:
        (..., T, T) booleans, symmetric.
    """
    position = torch.arange(active.shape[-1], device=active.device)
    near = (position[:, None] - position).abs() <= 1
    run = (~active).cumsum(dim=-1)  # the same number for all segments of a run
    together = active[..., :, None] & active[..., None, :] & (run[..., :, None] == run[..., None, :])
    return near | together


class GraphAttention(nn.Module):
    """Graph attention with one head, run once per class on that class's graph; results are averaged over the classes.

    Args:
        dim: D.
        slope: of the leaky ReLU of the scores.
    """

    def __init__(self, dim: int, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.weight = nn.Parameter(torch.empty(dim, dim))
        self.attention = nn.Parameter(torch.empty(2 * dim, 1))
        for parameter in (self.weight, self.attention):
            nn.init.xavier_uniform_(parameter, gain=2**0.5)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Nodes (B, 2, T, D) and edges (B, K, 2, T, T) to new nodes (B, 2, T, D); modalities are not joined."""
        nodes = nodes @ self.weight
        own, other = self.attention.unflatten(0, (2, -1))
        scores = F.leaky_relu(nodes @ own + (nodes @ other).transpose(-1, -2), self.slope)  # (B, 2, T, T)
        weights = scores.unsqueeze(1).masked_fill(~edges, -torch.inf).softmax(dim=-1)
        return F.elu(weights @ nodes.unsqueeze(1)).mean(dim=1)


class EventInteraction(nn.Module):
    """Stage 3: events gather from those of their own modality and of the other one; not part of the inference."""

    training_only = True

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.within, self.across = ContextAttention(dim, num_heads), ContextAttention(dim, num_heads)

    def forward(self, events: Tensor, exists: Tensor) -> Tensor:
        """Events (B, 2, K, D), those that exist being (B, 2, K), to new ones."""
        normed, visible = self.norm(events), exists.unsqueeze(-2)
        from_own = self.within(normed, normed, visible)
        return events + from_own + self.across(normed, normed.flip(1), visible.flip(1))


@known_by(
    "lfav",
    {"stage1", "stage2"},
    sizes={
        **{name: (f"stage1.{tensor}", axis) for name, (tensor, axis) in FRONT_END_SIZES.items()},
        "num_classes": ("stage1.temporal_pooling.fc_prob.weight", 0),
        "num_levels": "stage1.multiscale_hybrid_transformer.multiscale_hybrid_transformer.",
    },
)
class LFAV(nn.Module):
    """The three stages. The defaults are the network as it is applied to LLP, on VGGish/ResNet-152 features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_levels: L; level l has windows of 2^(l+1) segments.
        num_heads: H of stages 1 and 3, a divisor of D.
        window_heads: H of stage 1 where it is another one; None takes `num_heads`. The authors' script asks for 8,
            which never reach the released stage 1.
        dropout: of stage 1; the other stages have none.
        threshold: least probability of stage 1 at which a segment has an event.
        roll: how far the windows of stage 1 move between their two passes. The released code moves them by one
            position at every level; "half_window" moves them by half of their own length.

    Raises:
        UserError: an impossible combination of arguments, for instance a window that T segments cannot complete.
    """

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_levels: int = 4,
        num_heads: int = 4,
        dropout: float = 0.2,
        threshold: float = 0.5,
        roll: Roll = "one",
        window_heads: int | None = None,
    ) -> None:
        super().__init__()
        if roll not in ("one", "half_window"):
            raise UserError(f"roll is {roll!r}; expected 'one' or 'half_window'.")
        window_heads = num_heads if window_heads is None else window_heads
        if window_heads < 1 or hidden_dim % window_heads:
            raise UserError(f"hidden_dim ({hidden_dim}) must be a multiple of window_heads ({window_heads}).")
        if num_levels < 1:
            raise UserError(f"LFAV needs at least one level of windows; num_levels is {num_levels}.")
        if (window := 2**num_levels) - num_segments > num_segments:
            raise UserError(
                f"The last of {num_levels} levels has windows of {window} segments, which {num_segments} segments and "
                f"their repetition do not fill. Expected at most {(2 * num_segments).bit_length() - 1} levels."
            )
        self.threshold = threshold
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.levels = nn.ModuleList(
            WindowLevel(hidden_dim, window_heads, 2 ** (level + 1), dropout, roll) for level in range(num_levels)
        )
        self.first_head = TemporalHead(num_classes, hidden_dim)
        self.graphs = nn.ModuleList(GraphAttention(hidden_dim) for _ in range(2))
        self.head = TemporalHead(num_classes, hidden_dim)
        self.interaction = EventInteraction(hidden_dim, num_heads)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> LFAVOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: also relate the events with each other (stage 3).
        """
        both = torch.stack(self.front_end(audio, visual, motion))  # (2, B, T, D)
        for level in self.levels:
            both = level(both)
        first_features = stack_modalities(*both)
        first = self.first_head(first_features)

        active = first.logits.detach().sigmoid() >= self.threshold  # (B, T, 2, K)
        edges = snippet_edges(active.permute(0, 3, 2, 1))  # (B, K, 2, T, T)
        nodes = first_features.transpose(1, 2)
        for graph in self.graphs:
            nodes = graph(nodes, edges)
        features = nodes.transpose(1, 2)
        second = self.head(features)
        audio_prob, visual_prob = second.prob.unbind(dim=1)
        return LFAVOutput(
            segment_logits=second.logits,
            video_prob=torch.maximum(audio_prob, visual_prob),
            audio_prob=audio_prob,
            visual_prob=visual_prob,
            first=first,
            active=active,
            first_features=first_features,
            features=features,
            events=self._events(features, second, active) if auxiliary else None,
        )

    def _events(self, features: Tensor, second: Pooled, active: Tensor) -> Events:
        """Events of segment features (B, T, 2, D), where they are active (B, T, 2, K)."""
        exists = active.any(dim=1)
        weights = second.weights.detach() * active
        weights = weights / weights.sum(dim=1, keepdim=True).masked_fill(~exists.unsqueeze(1), 1)
        events = torch.einsum("btmk,btmd->bmkd", weights, features)
        related = self.interaction(events, exists)

        products = torch.einsum("btmd,bmkd->btmk", features, related)
        norms = features.norm(dim=-1).unsqueeze(-1) * related.norm(dim=-1).unsqueeze(1)
        likeness = (products / (norms + 1e-9)).softmax(dim=1)
        reweighted = (likeness * second.logits.sigmoid()).sum(dim=1)
        return Events(
            exists=exists,
            prob=self._event_prob(events),
            related_prob=self._event_prob(related),
            reweighted_prob=torch.where(exists, reweighted, second.prob),
        )

    def _event_prob(self, events: Tensor) -> Tensor:
        """Events (B, 2, K, D) to (B, 2, K): each read by its own class's row of stage 2's event layer."""
        return ((events * self.head.event.weight).sum(dim=-1) + self.head.event.bias).sigmoid()


@reference_names.register
def _(network: LFAV) -> Names:
    streams = {"audio": "fc_a", "visual": "fc_v", "motion": "fc_st", "fusion": "fc_fusion"}
    names = linears_names("front_end", "stage1", streams)
    for i in range(len(network.levels)):
        theirs = f"stage1.multiscale_hybrid_transformer.multiscale_hybrid_transformer.{i}"
        for module, prefix, projections in (
            ("audio", f"{theirs}.within_modal_transformer_a", ("qkv",)),
            ("visual", f"{theirs}.within_modal_transformer_v", ("qkv",)),
            ("cross", f"{theirs}.cross_modal_transformer", ("q", "kv", "kv")),  # two of three blocks of rows
        ):
            ours = f"levels.{i}.{module}"
            names |= linear_names(f"{ours}.attention.in_proj", *(f"{prefix}.{name}" for name in projections))
            names |= linears_names(ours, prefix, {"attention.out_proj": "proj"})
            names |= linears_names(ours, prefix, {"pre_norm": "pre_norm", "post_norm": "post_norm"})
    head = {"event": "fc_prob", "temporal": "fc_frame_att"}
    names |= linears_names("first_head", "stage1.temporal_pooling", head)
    names |= linears_names("head", "stage2.temporal_pooling", head)
    for i, theirs in enumerate(("attention", "out_att")):
        names |= {f"graphs.{i}.weight": (f"stage2.snippet_graph_op.{theirs}.W",)}
        names |= {f"graphs.{i}.attention": (f"stage2.snippet_graph_op.{theirs}.a",)}
    for ours, theirs in {"within": "mhsa", "across": "cm_mhsa"}.items():
        linears = {part: f"linears.{i}" for i, part in enumerate(("query", "key", "value", "out"))}
        names |= linears_names(f"interaction.{ours}", f"stage3.{theirs}", linears)
    return names | {"interaction.norm.weight": ("stage3.norm.g",), "interaction.norm.bias": ("stage3.norm.b",)}


@unused_reference_names.register
def _(network: LFAV) -> Mapping[str, tuple[int, ...]]:
    classes, dim = network.head.event.weight.shape
    return {"stage3.fc_prob.weight": (classes, dim), "stage3.fc_prob.bias": (classes,)}
