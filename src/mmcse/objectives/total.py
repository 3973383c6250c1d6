"""Loss terms and their weighted sum."""

from collections.abc import Mapping

import torch
from torch import Tensor


def with_total(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """The terms before their weights, and their weighted sum as "total".

    Args:
        terms: scalars by name.
        weights: a weight for each of the terms.
    """
    return {"total": torch.stack([weights[name] * term for name, term in terms.items()]).sum(), **terms}
