"""K linear layers in one: an independent linear map for every class."""

import math

import torch
from torch import Tensor, nn


class ClassLinear(nn.Module):
    """`num_classes` independent linear layers, each applied to its own class token.

    Args:
        num_classes: K.
        in_features: width of a token.
        out_features: width of the result.
    """

    def __init__(self, num_classes: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_classes, out_features))
        bound = 1 / math.sqrt(in_features)  # the default of nn.Linear
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., K, in_features) to (..., K, out_features)."""
        by_class = tokens.flatten(0, -3).transpose(0, 1)  # (K, rows, in)
        out = torch.baddbmm(self.bias.unsqueeze(1), by_class, self.weight.transpose(1, 2))
        return out.transpose(0, 1).unflatten(0, tokens.shape[:-2])
