"""Event co-occurrence loss (equations 10 and 11): attention among classes follows the labels that occur together."""

import torch.nn.functional as F
from torch import Tensor


def cooccurrence_loss(maps: dict[str, Tensor], audio: Tensor, visual: Tensor) -> Tensor:
    """Mean-squared difference of each map with the outer product of its labels, summed over the maps that exist.

    Args:
        maps: (B, T, K, K) each, rows are queries; "av" relates audio queries to visual keys.
        audio: (B, T, K) segment labels. Diagonals count, as any other entry.
        visual: (B, T, K) segment labels.
    """
    labels = {"a": audio, "v": visual}
    terms = [
        F.mse_loss(m, (labels[query].unsqueeze(-1) * labels[key].unsqueeze(-2)).to(m.dtype))
        for (query, key), m in maps.items()
    ]
    return sum(terms[1:], start=terms[0])
