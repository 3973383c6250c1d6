"""LFAV written the way its description reads, window by window, class by class, event by event: slow, and an oracle.

It reads a state under the names of the reference checkpoints, and parses one video at a time, without dropout.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AUDIO, VISUAL = 0, 1


@dataclass
class LiteralVideo:
    """What the three stages say of one video: probabilities of segments (2, T, K), of the rest (2, K)."""

    first_segments: Tensor
    first: Tensor
    segments: Tensor
    second: Tensor
    third: Tensor
    exists: Tensor
    events: Tensor
    related: Tensor


@dataclass
class LiteralLFAV:
    state: dict[str, Tensor]
    levels: int
    window_heads: int
    event_heads: int
    threshold: float
    shifts: tuple[int, ...]
    """How far the sequence is rolled at each level."""

    def __call__(self, audio: Tensor, visual: Tensor, motion: Tensor) -> LiteralVideo:
        """Features (T, C) of a video; those of frames are (n T, C)."""
        frames = visual.unflatten(0, (len(motion), -1)).mean(dim=1)
        x = self.linear("stage1.fc_a", audio)
        streams = torch.cat((self.linear("stage1.fc_v", frames), self.linear("stage1.fc_st", motion)), dim=-1)
        y = self.linear("stage1.fc_fusion", streams)
        for level in range(self.levels):
            x, y = self.level(level, x, y)
        p1, _, first = self.pooled("stage1", (x, y))

        active = p1 >= self.threshold
        nodes = torch.cat((x, y))
        for name in ("attention", "out_att"):
            nodes = self.snippet_graphs(f"stage2.snippet_graph_op.{name}", nodes, active)
        features = nodes.chunk(2)
        p2, w2, second = self.pooled("stage2", features)

        K = p2.shape[-1]
        exists = active.any(dim=1)
        events = [torch.zeros(K, x.shape[-1], dtype=x.dtype) for _ in range(2)]
        for m in (AUDIO, VISUAL):
            for k in range(K):
                on = [t for t in range(len(x)) if active[m, t, k]]
                if on:
                    weights = [w2[m, t, k].detach() for t in on]
                    event = sum(w * features[m][t] for w, t in zip(weights, on, strict=True)) / sum(weights)
                    events[m] = torch.cat((events[m][:k], event[None], events[m][k + 1 :]))
        normed = [
            F.layer_norm(e, e.shape[-1:], self.state["stage3.norm.g"], self.state["stage3.norm.b"]) for e in events
        ]
        related = [
            events[m]
            + self.masked_attention("stage3.mhsa", normed[m], normed[m], exists[m])
            + self.masked_attention("stage3.cm_mhsa", normed[m], normed[1 - m], exists[1 - m])
            for m in (AUDIO, VISUAL)
        ]
        third = second.clone()
        for m in (AUDIO, VISUAL):
            for k in range(K):
                if exists[m, k]:
                    dots = [x_t @ related[m][k] / (x_t.norm() * related[m][k].norm() + 1e-9) for x_t in features[m]]
                    third[m, k] = (torch.stack(dots).softmax(dim=0) * p2[m, :, k]).sum()
        return LiteralVideo(p1, first, p2, second, third, exists, self.event_prob(events), self.event_prob(related))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps=1e-5)

    def heads(self, q: Tensor, k: Tensor, v: Tensor, count: int, hidden: Tensor | None = None) -> Tensor:
        """Attention, head by head; `hidden` marks keys."""
        width, gathered = q.shape[-1] // count, []
        for h in range(count):
            part = slice(h * width, (h + 1) * width)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width)
            if hidden is not None:
                scores = scores.masked_fill(hidden, -1e9)
            gathered.append(scores.softmax(dim=-1) @ v[:, part])
        return torch.cat(gathered, dim=-1)

    def level(self, level: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        place = f"stage1.multiscale_hybrid_transformer.multiscale_hybrid_transformer.{level}"
        x = self.windows(f"{place}.within_modal_transformer_a", level, x)
        y = self.windows(f"{place}.within_modal_transformer_v", level, y)
        cross = f"{place}.cross_modal_transformer"
        return x + self.windows(cross, level, x, y), y + self.windows(cross, level, y, x)

    def windows(self, name: str, level: int, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Twice: as it is, and rolled; without y it is self attention."""
        shift = self.shifts[level]
        x = self.one_pass(name, 2 ** (level + 1), x, x if y is None else y)
        x = x.roll(-shift, 0)
        return self.one_pass(name, 2 ** (level + 1), x, x if y is None else y.roll(-shift, 0)).roll(shift, 0)

    def one_pass(self, name: str, window: int, x: Tensor, y: Tensor) -> Tensor:
        missing = -len(x) % window
        queries, context = (
            torch.cat((z, z[len(z) - missing :]))
            for z in (self.norm(f"{name}.pre_norm", x), self.norm(f"{name}.pre_norm", y))
        )
        gathered = []
        for start in range(0, len(queries), window):
            inside, seen = queries[start : start + window], context[start : start + window]
            if f"{name}.qkv.weight" in self.state:
                q, _, _ = self.linear(f"{name}.qkv", inside).chunk(3, dim=-1)
                _, k, v = self.linear(f"{name}.qkv", seen).chunk(3, dim=-1)
            else:
                q, (k, v) = self.linear(f"{name}.q", inside), self.linear(f"{name}.kv", seen).chunk(2, dim=-1)
            gathered.append(self.linear(f"{name}.proj", self.heads(q, k, v, self.window_heads)))
        return self.norm(f"{name}.post_norm", torch.cat(gathered)[: len(x)] + x)

    def pooled(self, stage: str, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities and weights of segments (2, T, K), and probabilities of the modalities (2, K)."""
        both = torch.stack(features)
        prob = self.linear(f"{stage}.temporal_pooling.fc_prob", both).sigmoid()
        weights = self.linear(f"{stage}.temporal_pooling.fc_frame_att", both).softmax(dim=1)
        return prob, weights, (weights * prob).sum(dim=1)

    def snippet_graphs(self, name: str, nodes: Tensor, active: Tensor) -> Tensor:
        """One layer on all 2T nodes, once per class, averaged."""
        mapped, T, D = nodes @ self.state[f"{name}.W"], len(nodes) // 2, nodes.shape[-1]
        own, other = mapped @ self.state[f"{name}.a"][:D], mapped @ self.state[f"{name}.a"][D:]
        scores, results = F.leaky_relu(own + other.T, 0.1), []
        for k in range(active.shape[-1]):
            joined = torch.zeros(2 * T, 2 * T, dtype=torch.bool)
            for m in (AUDIO, VISUAL):
                on = active[m, :, k].tolist()
                for i in range(T):
                    for j in range(T):
                        joined[m * T + i, m * T + j] = abs(i - j) <= 1 or all(on[min(i, j) : max(i, j) + 1])
            results.append(F.elu(scores.masked_fill(~joined, -torch.inf).softmax(dim=-1) @ mapped))
        return torch.stack(results).mean(dim=0)

    def masked_attention(self, name: str, tokens: Tensor, context: Tensor, exists: Tensor) -> Tensor:
        q, k, v = (self.linear(f"{name}.linears.{i}", x) for i, x in enumerate((tokens, context, context)))
        return self.linear(f"{name}.linears.3", self.heads(q, k, v, self.event_heads, ~exists))

    def event_prob(self, events: list[Tensor]) -> Tensor:
        """(2, K): each event read by its own class's row of stage 2's layer."""
        return self.linear("stage2.temporal_pooling.fc_prob", torch.stack(events)).sigmoid().diagonal(dim1=1, dim2=2)


def literal_loss(videos: list[LiteralVideo], targets: Tensor, third: float, event: float) -> Tensor:
    """The loss after the warm-up, of targets (B, 2, K)."""

    def bce(prob: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy(prob.clamp(1e-7, 1 - 1e-7), label)

    total = torch.zeros((), dtype=targets.dtype)
    for m in (AUDIO, VISUAL):
        label = targets[:, m]
        for weight, name in ((1.0, "first"), (1.0, "second"), (third, "third")):
            total = total + weight * bce(torch.stack([getattr(video, name)[m] for video in videos]), label)
        pairs = [(b, k) for b, video in enumerate(videos) for k in range(label.shape[1]) if video.exists[m, k]]
        if pairs:
            prob = torch.stack([videos[b].related[m, k] for b, k in pairs])
            total = total + event * bce(prob, torch.stack([label[b, k] for b, k in pairs]))
    return total
