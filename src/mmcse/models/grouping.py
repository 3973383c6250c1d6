"""Grouping blocks (MGN): things are assigned to tokens, which compete for them."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.models.attention import Attention
from mmcse.models.linear import Linear
from mmcse.models.transformer import ContextAttention

Rule = Literal["soft", "hard"]
"""Assignment: each thing spreads over the tokens, or belongs to one of them (with Gumbel noise while training)."""


class StochasticDepth(nn.Module):
    """Drops the whole update of a sample with probability `rate` while training, and scales the kept ones up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, D) to the same shape."""
        if not self.training or not self.rate:
            return x
        return x * x.new_empty(len(x), 1, 1).bernoulli_(1 - self.rate) / (1 - self.rate)


class TransformerBlock(nn.Module):
    """Pre-norm self attention and a two-layer perceptron of width 4D."""

    def __init__(self, dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads, dropout=0.0)
        self.mlp = _mlp(dim, 4 * dim)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n, D) to the same shape."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.drop_path(self.attention(normed, normed)[0])
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


class GroupingBlock(nn.Module):
    """Assigns things to tokens, and adds to each token the mean, damped by a plus one, of what it was assigned.

    Args:
        num_tokens: how many tokens there are.
        dim: D.
        num_heads: H, a divisor of D.
        rule: how things are assigned.
    """

    def __init__(self, num_tokens: int, dim: int, num_heads: int, rule: Rule) -> None:
        super().__init__()
        self.rule: Rule = rule
        self.token_norm, self.mixed_norm, self.thing_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.mixing = _mlp(num_tokens, dim // 2)
        self.gathering = ContextAttention(dim, num_heads)
        self.gathering_norm, self.gathered_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.gathering_mlp = _mlp(dim, 4 * dim)
        self.assigning = ContextAttention(dim, num_heads=1)
        self.result_norm, self.result_mlp = nn.LayerNorm(dim), _mlp(dim, 4 * dim)

    def forward(self, things: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Things (B, S, D) and tokens (B, n, D) to new tokens (B, n, D) and the assignment (B, n, S)."""
        things, tokens = self.thing_norm(things), self.token_norm(tokens)
        tokens = self.mixed_norm(self.mixing(tokens.transpose(1, 2)).transpose(1, 2))
        tokens = tokens + self.gathering(tokens, things)
        tokens = self.gathered_norm(tokens + self.gathering_mlp(self.gathering_norm(tokens)))
        assignment = self._assign(self.assigning.scores(tokens, things).squeeze(1))
        share = assignment / (assignment.sum(dim=-1, keepdim=True) + 1)
        tokens = tokens + self.assigning.out(share @ self.assigning.value(things))
        return tokens + self.result_mlp(self.result_norm(tokens)), assignment

    def _assign(self, scores: Tensor) -> Tensor:
        """Scores (B, n, S) to shares that sum to one over the tokens of every thing."""
        if self.rule == "hard" and self.training:
            single = scores.to(torch.promote_types(scores.dtype, torch.float32))  # in half, noise may be infinite
            return F.gumbel_softmax(single, hard=True, dim=1).to(scores.dtype)
        soft = scores.softmax(dim=1)
        if self.rule == "soft":
            return soft
        hard = torch.zeros_like(soft).scatter(1, soft.argmax(dim=1, keepdim=True), 1)
        return hard - soft.detach() + soft  # the value of the one, the gradient of the other


def _mlp(dim: int, inner: int) -> nn.Sequential:
    return nn.Sequential(Linear(dim, inner), nn.GELU(), Linear(inner, dim))
