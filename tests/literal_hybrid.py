"""HAN and VALOR written the way their papers read, with PyTorch's own attention: slow, plain, and an oracle.

Parameters carry the names of the reference checkpoints, so `to_reference_state(ours)` loads straight into it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.batch import ParserOutput


class LiteralHybridLayer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int, norm: str) -> None:
        super().__init__()
        self.norm = norm
        self.self_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.cm_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, query: Tensor, other: Tensor) -> Tensor:
        read = self.norm1(query) if self.norm == "pre" else query
        cross, _ = self.cm_attn(read, other, other, need_weights=True)
        own, _ = self.self_attn(read, read, read, need_weights=True)
        query = query + cross + own
        if self.norm == "post":
            query = self.norm1(query)
        read = self.norm2(query) if self.norm == "pre" else query
        query = query + self.linear2(F.relu(self.linear1(read)))
        return self.norm2(query) if self.norm == "post" else query


class LiteralHybridEncoder(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int, depth: int, norm: str, sequential: bool) -> None:
        super().__init__()
        self.norm, self.sequential = norm, sequential
        self.layers = nn.ModuleList(LiteralHybridLayer(dim, heads, feedforward, norm) for _ in range(depth))
        if norm == "pre":
            self.final_norm_a, self.final_norm_v = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            new_audio = layer(audio, visual)
            visual = layer(visual, new_audio if self.sequential else audio)
            audio = new_audio
        if self.norm == "pre":
            return self.final_norm_a(audio), self.final_norm_v(visual)
        return audio, visual


class LiteralHybrid(nn.Module):
    """HAN (`sequential=False`) or VALOR; takes features that are one per segment, or frames of the visual stream."""

    def __init__(
        self,
        audio_dim: int,
        visual_dim: int,
        motion_dim: int,
        num_classes: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        norm: str = "post",
        *,
        sequential: bool,
    ) -> None:
        super().__init__()
        self.fc_a, self.fc_v = nn.Linear(audio_dim, hidden_dim), nn.Linear(visual_dim, hidden_dim)
        self.fc_st, self.fc_fusion = nn.Linear(motion_dim, hidden_dim), nn.Linear(2 * hidden_dim, hidden_dim)
        self.hat_encoder = LiteralHybridEncoder(hidden_dim, num_heads, feedforward_dim, num_layers, norm, sequential)
        self.fc_prob = nn.Linear(hidden_dim, num_classes)
        self.fc_frame_att = nn.Linear(hidden_dim, num_classes)
        self.fc_av_att = nn.Linear(hidden_dim, num_classes)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> ParserOutput:
        x_audio, x_visual = self.fc_a(audio), self.fc_v(visual)
        if x_visual.shape[1] != motion.shape[1]:
            x_visual = x_visual.unflatten(1, (motion.shape[1], -1)).mean(dim=2)
        x_visual = self.fc_fusion(torch.cat((x_visual, self.fc_st(motion)), dim=-1))
        both = torch.stack(self.hat_encoder(x_audio, x_visual), dim=2)  # (B, T, 2, D)
        logits = self.fc_prob(both)
        weighted = torch.sigmoid(logits) * torch.softmax(self.fc_frame_att(both), dim=1)
        return ParserOutput(
            segment_logits=logits,
            video_prob=(weighted * torch.softmax(self.fc_av_att(both), dim=2)).sum(dim=(1, 2)),
            audio_prob=weighted[:, :, 0].sum(dim=1),
            visual_prob=weighted[:, :, 1].sum(dim=1),
        )
