"""Attention to a context of any length, partly hidden, and the transformer layer of MM-Pyramid and LEAP."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.dropout import Dropout
from mmcse.models.feedforward import FeedForward
from mmcse.models.linear import Linear


class ContextAttention(nn.Module):
    """Multi-head attention of tokens to a context whose length may differ and of which parts may be hidden.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        dropout: on the attention weights.

    Raises:
        UserError: the width does not divide among the heads.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise UserError(f"hidden_dim ({dim}) must be a multiple of num_heads ({num_heads}).")
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (Linear(dim, dim) for _ in range(4))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        """Let every token gather from the context.

        Args:
            tokens: (..., n, D) queries.
            context: (..., m, D) keys and values.
            visible: booleans (..., n, m), any axis of which may be 1: which keys a query sees; None shows all. A
                query that sees none gathers from all alike.

        Returns:
            (..., n, D).
        """
        scores = self.scores(tokens, context)
        if visible is not None:
            scores = scores.masked_fill(~visible.unsqueeze(-3), torch.finfo(scores.dtype).min)
        gathered = self.dropout(scores.softmax(dim=-1)) @ self._by_head(self.value(context))
        return self.out(gathered.transpose(-2, -3).flatten(-2))

    def scores(self, tokens: Tensor, context: Tensor) -> Tensor:
        """What the softmax would read: scaled products of queries and keys, (..., H, n, m)."""
        query, key = self._by_head(self.query(tokens)), self._by_head(self.key(context))
        return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])

    def _by_head(self, x: Tensor) -> Tensor:
        """(..., n, D) to (..., H, n, D/H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)


class QueryNormLayer(nn.Module):
    """Transformer layer that normalises its queries only: keys and values are the raw context, even its own tokens.

    Args:
        dim: D.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of the feed-forward part.
        attention_dropout: on the attention weights.
        dropout: on the two updates, and inside the feed-forward part.
    """

    def __init__(
        self, dim: int, num_heads: int, feedforward_dim: int, attention_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = ContextAttention(dim, num_heads, attention_dropout)
        self.dropout = Dropout(dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)

    def forward(self, tokens: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens (..., n, D), given a context (..., m, D), to new ones; arguments as of `ContextAttention`."""
        return self.refine(self.attend(tokens, context, visible))

    def attend(self, tokens: Tensor, context: Tensor, visible: Tensor | None = None) -> Tensor:
        """The first half: what attention adds to the tokens."""
        return tokens + self.dropout(self.attention(self.attention_norm(tokens), context, visible))

    def refine(self, tokens: Tensor) -> Tensor:
        """The second half: what the feed-forward part adds to the tokens."""
        return tokens + self.dropout(self.feedforward(self.feedforward_norm(tokens)))


def start_alike(modules: Sequence[nn.Module]) -> None:
    """Give modules of one build the initial parameters of the first; they are trained apart from then on."""
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
