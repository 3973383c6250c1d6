"""What repeated runs say: mean, spread, interval, and whether a difference is more than chance.

Everything is Student's t on a handful of independent values. Only its distribution comes from scipy, which the extra
`report` installs.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from mmcse.errors import UserError

CONFIDENCE = 0.95


class Summary(NamedTuple):
    """A handful of values: their mean and, of two or more, standard deviation (n - 1) and 95 % interval of the mean."""

    mean: float
    n: int
    std: float | None = None
    low: float | None = None
    high: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and t-interval of independent values.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values to summarise")
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(mean, n)
    std = float(np.std(values, ddof=1))
    half = _student().stdtrit(n - 1, (1 + CONFIDENCE) / 2) * std / math.sqrt(n)
    return Summary(mean, n, std, float(mean - half), float(mean + half))


def t_test(values: Sequence[float], expected: float = 0.0) -> float | None:
    """Two-sided p of a one-sample t-test: how likely so far a mean is, were `expected` the truth.

    A paired comparison is this test on the differences.

    Returns:
        p, or None for fewer than two values, which say nothing about their spread.
    """
    if len(values) < 2:
        return None
    summary = summarise(values)
    distance = abs(summary.mean - expected)
    if not summary.std:
        return 1.0 if distance == 0 else 0.0
    t = distance / (summary.std / math.sqrt(summary.n))
    return float(2 * _student().stdtr(summary.n - 1, -t))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct several tests at once (Holm, 1979): the chance of any false finding stays below the level.

    Args:
        p_values: of one family of tests; None for a test that could not be made, which does not count.

    Returns:
        Adjusted p, in the same order.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(made):
        highest = max(highest, min(1.0, (len(made) - rank) * p))
        adjusted[index] = highest
    return adjusted


def _student() -> ModuleType:
    """Where scipy has Student's distribution; imported here, because only reports need it."""
    try:
        import scipy.special
    except ImportError:
        raise UserError("Intervals and tests need scipy: pip install 'mmcse[report]'.") from None
    return scipy.special
