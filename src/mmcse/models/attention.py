"""Multi-head attention, shared by the networks: among classes (MM-CSE) or among segments (HAN, VALOR)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.models.dropout import Dropout


class Attention(nn.Module):
    """Multi-head attention of tokens to a context, with the parameters and the start of PyTorch's own module.

    Unlike `torch.nn.MultiheadAttention` it takes any number of leading axes, and computes weights only on request.

    Args:
        dim: width of a token.
        num_heads: H, a divisor of `dim`.
        dropout: on the attention weights.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = Dropout(dropout)
        self.in_proj = nn.Linear(dim, 3 * dim)  # rows of query, key and value
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, context: Tensor, need_map: bool = False) -> tuple[Tensor, Tensor | None]:
        """Let every token gather from the context of its set.

        Args:
            tokens: (..., n, dim) queries: sets of n tokens.
            context: keys and values, of the same shape; `tokens` itself makes it self attention.
            need_map: also return what the values were weighted with.

        Returns:
            What was gathered, (..., n, dim), and the attention map (..., n, n) or None. The map is the mean over
            heads; its rows (queries) sum to one, up to dropout while training.
        """
        # (rows, H, n, dim/H): with one axis for all leading ones, PyTorch can choose its fused kernels
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3).flatten(0, -4)
            for x in self._project(tokens, context)
        )
        attention_map = None
        if need_map or self.training:
            weights = self.dropout((query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1))
            gathered = weights @ value
            if need_map:
                attention_map = weights.mean(dim=1).unflatten(0, tokens.shape[:-2])
        else:
            gathered = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(gathered.transpose(1, 2).reshape(tokens.shape)), attention_map

    def _project(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, each (..., n, dim)."""
        if context is tokens:
            return self.in_proj(tokens).chunk(3, dim=-1)
        weight, bias, dim = self.in_proj.weight, self.in_proj.bias, tokens.shape[-1]
        return (
            F.linear(tokens, weight[:dim], bias[:dim]),
            *F.linear(context, weight[dim:], bias[dim:]).chunk(2, dim=-1),
        )
