"""MM-CSE written the way the paper reads: a module per class, a loop per direction. Slow, plain, and an oracle.

Parameters carry the names of the reference checkpoints, so `to_reference_state(ours)` loads straight into it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.batch import ParserOutput


class LiteralSECM(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, dropout=0.1, batch_first=True)

    def forward(self, query: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        batch, segments = query.shape[:2]
        q, o = query.flatten(0, 1), other.flatten(0, 1)
        attended, weights = self.attn(q, o, o, need_weights=True)
        return query + attended.unflatten(0, (batch, segments)), weights.unflatten(0, (batch, segments))


class LiteralIntraLGSF(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.glob1, self.glob2 = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, query: Tensor, enhanced: Tensor) -> Tensor:
        video = F.relu(self.glob2(enhanced)).mean(dim=1)
        segment = F.relu(self.glob1(enhanced))
        out = torch.empty_like(query)
        for t in range(query.shape[1]):
            relevance = torch.sigmoid(F.cosine_similarity(segment[:, t], video, dim=-1))
            out[:, t] = query[:, t] + relevance[..., None] * video
        return out


class LiteralCrossLGSF(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.glob = nn.Linear(dim, dim)

    def forward(self, query: Tensor, enhanced: Tensor, other: Tensor) -> Tensor:
        video = F.relu(self.glob(other)).mean(dim=1)
        segment = F.relu(self.glob(enhanced))
        out = torch.empty_like(query)
        for t in range(query.shape[1]):
            relevance = torch.sigmoid(F.cosine_similarity(segment[:, t], video, dim=-1))
            out[:, t] = query[:, t] + relevance[..., None] * video
        return out


class LiteralLayer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.SECM_1, self.SECM_2 = LiteralSECM(dim, heads), LiteralSECM(dim, heads)
        self.LGSF_1, self.LGSF_2 = LiteralIntraLGSF(dim), LiteralCrossLGSF(dim)
        self.fc1, self.fc2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, query: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        enhanced, own_map = self.SECM_1(query, query)
        intra = self.LGSF_1(query, enhanced)
        enhanced, cross_map = self.SECM_2(query, other)
        cross = self.LGSF_2(query, enhanced, other)
        merged = self.norm1(self.fc1(intra) + self.fc2(cross))
        return self.linear2(self.dropout(F.relu(self.linear1(merged)))), own_map, cross_map


class LiteralEncoder(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LiteralLayer(dim, heads, feedforward) for _ in range(depth))

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        maps = {}
        for layer in self.layers:
            new_audio, maps["aa"], maps["av"] = layer(audio, visual)
            new_visual, maps["vv"], maps["va"] = layer(visual, audio)
            audio, visual = new_audio, new_visual
        return audio, visual, maps


class LiteralHead(nn.Module):
    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(dim, 1) for _ in range(classes))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.cat([linear(tokens[..., k, :]) for k, linear in enumerate(self.fc)], dim=-1)


class LiteralBlend(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        linears = nn.Linear(hidden, hidden // 2), nn.Linear(hidden // 2, 1)
        self.model = nn.Sequential(nn.ReLU(), linears[0], nn.ReLU(), nn.Dropout(0.1), linears[1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.model(x))


class LiteralVisualDecoder(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Identity(), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class LiteralMMCSE(nn.Module):
    """Takes features that are already one per segment, or frames of the visual stream."""

    def __init__(
        self,
        audio_dim: int = 768,
        visual_dim: int = 768,
        motion_dim: int = 512,
        num_classes: int = 25,
        hidden_dim: int = 256,
        class_dim: int = 128,
        num_layers: int = 4,
        num_heads: int = 8,
        feedforward_dim: int = 512,
    ) -> None:
        super().__init__()
        self.fc_a, self.fc_v = nn.Linear(audio_dim, hidden_dim), nn.Linear(visual_dim, hidden_dim)
        self.fc_st, self.fc_fusion = nn.Linear(motion_dim, hidden_dim), nn.Linear(2 * hidden_dim, hidden_dim)
        decouplers = range(num_classes + 1)
        self.a_unmix = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Linear(hidden_dim, class_dim), nn.ReLU()) for _ in decouplers
        )
        self.v_unmix = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Linear(hidden_dim, class_dim),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Linear(class_dim, class_dim),
                nn.ReLU(),
            )
            for _ in decouplers
        )
        self.alpha_a, self.alpha_v = LiteralBlend(hidden_dim), LiteralBlend(hidden_dim)
        self.reduce_a = nn.Sequential(nn.Linear(2 * class_dim, class_dim), nn.ReLU())
        self.reduce_v = nn.Sequential(nn.Linear(2 * class_dim, class_dim), nn.ReLU())
        width = (num_classes + 1) * class_dim
        self.a_recon = nn.Sequential(
            nn.Linear(width, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
        )
        self.v_recon = LiteralVisualDecoder(width, hidden_dim)
        self.av_enhance = LiteralEncoder(class_dim, num_heads, feedforward_dim, num_layers)
        self.fc_prob, self.fc_frame_att, self.fc_av_att = (LiteralHead(num_classes, class_dim) for _ in range(3))

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> ParserOutput:
        x_audio, x_visual = self.fc_a(audio), self.fc_v(visual)
        if x_visual.shape[1] != motion.shape[1]:
            x_visual = x_visual.unflatten(1, (motion.shape[1], -1)).mean(dim=2)
        x_visual = self.fc_fusion(torch.cat((x_visual, self.fc_st(motion)), dim=-1))

        tokens, features, rebuilt = [], [], []
        for x, unmix, alpha, reduce, decoder in (
            (x_audio, self.a_unmix, self.alpha_a, self.reduce_a, self.a_recon),
            (x_visual, self.v_unmix, self.alpha_v, self.reduce_v, self.v_recon),
        ):
            decoupled = torch.stack([decoupler(x) for decoupler in unmix], dim=2)
            weight, background = alpha(x), decoupled[:, :, -1]
            tokens.append(
                torch.stack(
                    [
                        reduce(torch.cat((weight * decoupled[:, :, k], (1 - weight) * background), dim=-1))
                        for k in range(len(unmix) - 1)
                    ],
                    dim=2,
                )
            )
            features.append(decoupled)
            rebuilt.append(decoder(decoupled.flatten(2)))

        enhanced_audio, enhanced_visual, maps = self.av_enhance(*tokens)
        both = torch.stack((enhanced_audio, enhanced_visual), dim=2)  # (B, T, 2, K, d)
        logits, temporal, modality = self.fc_prob(both), self.fc_frame_att(both), self.fc_av_att(both)
        prob, over_time, over_modality = (
            torch.sigmoid(logits),
            temporal.softmax(dim=1),
            modality.softmax(dim=2),
        )
        stacked = torch.stack(features, dim=2)
        return ParserOutput(
            segment_logits=logits,
            video_prob=(prob * over_time * over_modality).sum(dim=(1, 2)),
            audio_prob=(prob * over_time)[:, :, 0].sum(dim=1),
            visual_prob=(prob * over_time)[:, :, 1].sum(dim=1),
            cooccurrence=maps,
            holistic=torch.stack((x_audio, x_visual), dim=2),
            reconstruction=torch.stack(rebuilt, dim=2),
            event_features=stacked[..., :-1, :],
            background_features=stacked[..., -1, :],
        )
