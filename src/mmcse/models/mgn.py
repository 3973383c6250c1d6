"""MGN, the multi-modal grouping network (Mo and Tian, NeurIPS 2022): segments are assigned to a token per class.

A token per class and modality is learnt. Transformer blocks let the tokens and the segments of a video see each other,
a grouping block then assigns the segments to the tokens; what a token has become tells whether the video has the event,
and the map of the assignment where.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.grouping import GroupingBlock, Rule, TransformerBlock
from mmcse.models.linear import Linear
from mmcse.models.recognition import FRONT_END_SIZES, known_by
from mmcse.models.reference import Names, front_end_names, linear_names, linears_names, reference_names

SoftMap = Literal["double_softmax", "assignment"]
"""What localises the events under the soft rule, see `MGN`."""


@dataclass(frozen=True, kw_only=True)
class MGNOutput(ParserOutput):
    """A parsing whose segment probabilities are video-level ones times a map of assignment.

    They may exceed one (see `soft_map` of `MGN`), which no logit expresses: `segment_logits` stops at the largest
    logit of its precision, `segment_prob` is exact.
    """

    assignment: Tensor
    """(B, T, 2, K) map of the assignment of segments to classes."""
    token_logits: Tensor
    """(2, K, K) classification of the learnt class tokens of audio and visual; rows are tokens."""
    segments: Tensor
    """(B, T, 2, D) segment features that were grouped."""
    class_tokens: Tensor
    """(B, 2, K, D) class tokens after grouping the segments of their modality."""
    fused_tokens: Tensor
    """(B, K, D) class tokens after grouping across modalities."""

    @property
    def segment_prob(self) -> Tensor:
        """(B, T, 2, K) segment-level scores, not bounded by one."""
        return torch.stack((self.audio_prob, self.visual_prob), dim=1)[:, None] * self.assignment


class UnimodalGrouping(nn.Module):
    """Blocks over the segments and class tokens of one modality, then the grouping of its segments.

    Args:
        num_classes: K.
        dim: D.
        num_heads: H.
        depth: transformer blocks.
        drop_path: rate of stochastic depth.
        rule: how segments are assigned to class tokens.
        exchange: a block that first groups the segments by those of the other modality; None leaves it out.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        num_heads: int,
        depth: int,
        drop_path: float,
        rule: Rule,
        exchange: GroupingBlock | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(TransformerBlock(dim, num_heads, drop_path) for _ in range(depth)))
        self.exchange = exchange
        self.grouping = GroupingBlock(num_classes, dim, num_heads, rule)

    def forward(self, things: Tensor, tokens: Tensor, other: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Things (B, S, D), class tokens (B, K, D), and the other modality's segments (B, T, D) for an exchange.

        Returns:
            Class tokens (B, K, D), assignment (B, K, S), and the things (B, S, D) that were grouped.
        """
        both = self.blocks(torch.cat((things, tokens), dim=1))
        things, tokens = both.split((things.shape[1], tokens.shape[1]), dim=1)
        if self.exchange is not None and other is not None:
            things, _ = self.exchange(things, other)
        tokens, assignment = self.grouping(things, tokens)
        return tokens, assignment, things


@known_by(
    "mgn",
    {"audio_cug", "av_mcg"},
    sizes=FRONT_END_SIZES
    | {
        "num_classes": ("fc_cls.weight", 0),
        "num_segments": ("audio_cug.han_encoder.mlp_inter.fc1.weight", -1),
        "audio_depth": "audio_cug.blocks.",
        "visual_depth": "visual_cug.blocks.",
        "cross_depth": "av_mcg.blocks.",
    },
)
class MGN(nn.Module):
    """Front end, grouping within each modality, grouping across modalities.

    The defaults are the released network, on VGGish/ResNet-152 features.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T; the exchange block has weights for T segments.
        hidden_dim: D.
        num_heads: H, a divisor of D.
        audio_depth: transformer blocks of audio.
        visual_depth: transformer blocks of visual.
        cross_depth: transformer blocks across modalities.
        drop_path: rate of stochastic depth, the only noise besides the hard rule's.
        unimodal_rule: how segments are assigned to class tokens. The block that exchanges audio for visual segments
            takes the opposite rule.
        cross_rule: how the audio class tokens are assigned to the visual ones.
        soft_map: what localises events under the soft rule. "double_softmax" (released) is one plus a softmax, over
            the segments, of shares that are softmax values already: for ten segments within 1 + [0.039, 0.232], so
            that a segment tells hardly more than its video. "assignment" is the share of the segment that the class
            has, as under the hard rule. Shares of a segment sum to one over the classes: at a threshold of 0.5 it has
            at most one event of a modality, under either rule.

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
        hidden_dim: int = 128,
        num_heads: int = 8,
        audio_depth: int = 3,
        visual_depth: int = 3,
        cross_depth: int = 6,
        drop_path: float = 0.1,
        unimodal_rule: Rule = "soft",
        cross_rule: Rule = "soft",
        soft_map: SoftMap = "double_softmax",
    ) -> None:
        super().__init__()
        for name, rule in (("unimodal_rule", unimodal_rule), ("cross_rule", cross_rule)):
            if rule not in ("soft", "hard"):
                raise UserError(f"{name} is {rule!r}; expected 'soft' or 'hard'.")
        if soft_map not in ("double_softmax", "assignment"):
            raise UserError(f"soft_map is {soft_map!r}; expected 'double_softmax' or 'assignment'.")
        if not 0 <= drop_path < 1:
            raise UserError(f"drop_path is {drop_path}; expected a rate from 0 to below 1.")
        self.double_softmax = soft_map == "double_softmax" and unimodal_rule == "soft"
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.audio_tokens = nn.Parameter(torch.zeros(num_classes, hidden_dim))
        self.visual_tokens = nn.Parameter(torch.zeros(num_classes, hidden_dim))
        opposite: Rule = "hard" if unimodal_rule == "soft" else "soft"
        exchange = GroupingBlock(num_segments, hidden_dim, num_heads, opposite)
        sizes = num_classes, hidden_dim, num_heads
        self.audio = UnimodalGrouping(*sizes, audio_depth, drop_path, unimodal_rule, exchange)
        self.visual = UnimodalGrouping(*sizes, visual_depth, drop_path, unimodal_rule)
        self.cross = UnimodalGrouping(*sizes, cross_depth, drop_path, cross_rule)
        self.video_head, self.audio_head, self.visual_head = (Linear(hidden_dim, 1) for _ in range(3))
        self.token_head = Linear(hidden_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-2, b=2)
                nn.init.zeros_(module.bias)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> MGNOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: what the output holds beyond predictions costs nothing.
        """
        x_audio, x_visual = self.front_end(audio, visual, motion)
        learnt = torch.stack((self.audio_tokens, self.visual_tokens))
        of_audio, of_visual = learnt[:, None].expand(-1, len(x_audio), -1, -1)
        visual_tokens, visual_map, visual_segments = self.visual(x_visual, of_visual)
        audio_tokens, audio_map, audio_segments = self.audio(x_audio, of_audio, other=x_visual)
        fused, _, _ = self.cross(audio_tokens, visual_tokens)

        assignment = torch.stack((audio_map, visual_map), dim=1)  # (B, 2, K, T)
        if self.double_softmax:
            assignment = 1 + assignment.softmax(dim=-1)
        probabilities = {
            "video_prob": self.video_head(fused).squeeze(-1).sigmoid(),
            "audio_prob": self.audio_head(audio_tokens).squeeze(-1).sigmoid(),
            "visual_prob": self.visual_head(visual_tokens).squeeze(-1).sigmoid(),
        }
        by_modality = torch.stack((probabilities["audio_prob"], probabilities["visual_prob"]), dim=1)
        assignment = assignment.movedim(-1, 1)  # (B, T, 2, K)
        return MGNOutput(
            segment_logits=(by_modality[:, None] * assignment).logit(eps=torch.finfo(assignment.dtype).eps),
            **probabilities,
            assignment=assignment,
            token_logits=self.token_head(learnt),
            segments=stack_modalities(audio_segments, visual_segments),
            class_tokens=torch.stack((audio_tokens, visual_tokens), dim=1),
            fused_tokens=fused,
        )


_BLOCK = {
    "attention_norm": "norm1",
    "attention.in_proj": "attn.qkv",
    "attention.out_proj": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "proj"}
_GROUPING = {
    "token_norm": "norm_tokens",
    "mixing.0": "mlp_inter.fc1",
    "mixing.2": "mlp_inter.fc2",
    "mixed_norm": "norm_post_tokens",
    "thing_norm": "norm_x",
    **{f"gathering.{ours}": f"pre_assign_attn.attn.{theirs}" for ours, theirs in _PROJECTIONS.items()},
    "gathering_norm": "pre_assign_attn.norm2",
    "gathering_mlp.0": "pre_assign_attn.mlp.fc1",
    "gathering_mlp.2": "pre_assign_attn.mlp.fc2",
    "gathered_norm": "pre_assign_attn.norm_post",
    **{f"assigning.{ours}": f"assign.{theirs}" for ours, theirs in _PROJECTIONS.items()},
    "result_norm": "norm_new_x",
    "result_mlp.0": "mlp_channels.fc1",
    "result_mlp.2": "mlp_channels.fc2",
}
_MODULES = {"audio": "audio_cug", "visual": "visual_cug", "cross": "av_mcg"}
_HEADS = {"video": "fc_prob", "audio": "fc_prob_a", "visual": "fc_prob_v", "token": "fc_cls"}


@reference_names.register
def _(network: MGN) -> Names:
    names = front_end_names() | {"audio_tokens": ("audio_token",), "visual_tokens": ("visual_token",)}
    for ours, theirs in _MODULES.items():
        names |= linears_names(f"{ours}.grouping", f"{theirs}.grouping", _GROUPING)
        for i, _ in enumerate(network.get_submodule(f"{ours}.blocks").children()):
            names |= linears_names(f"{ours}.blocks.{i}", f"{theirs}.blocks.{i}", _BLOCK)
    names |= linears_names("audio.exchange", "audio_cug.han_encoder", _GROUPING)
    for ours, theirs in _HEADS.items():
        names |= linear_names(f"{ours}_head", theirs)
    return names
