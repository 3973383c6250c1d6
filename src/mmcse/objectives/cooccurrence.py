"""Event co-occurrence loss (equations 10 and 11): attention among classes follows the labels that occur together."""

import torch.nn.functional as F
from torch import Tensor


def cooccurrence_loss(maps: dict[str, Tensor], label: Tensor) -> Tensor:
    """Mean-squared difference of each map with the outer product of its labels, summed over the maps that exist.

    Args:
        maps: (B, T, K, K) each, rows are queries; "av" relates audio queries to visual keys.
        label: (B, T, 2, K) segment labels of audio and visual. Diagonals count, as any other entry.
    """
    by_name = dict(zip("av", label.unbind(dim=2), strict=True))
    terms = [
        F.mse_loss(m, (by_name[query].unsqueeze(-1) * by_name[key].unsqueeze(-2)).to(m.dtype))
        for (query, key), m in maps.items()
    ]
    return sum(terms[1:], start=terms[0])
