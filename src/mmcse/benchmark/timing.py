"""Times of several ways to do the same, taken in turns."""

import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

Seconds = dict[str, list[float]]
"""Times of each way, in the order they were taken; the n-th of all ways were taken in the same round."""


class Quartiles(NamedTuple):
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Of any numbers."""
        low, median, high = np.quantile(list(values), (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


def take_turns(ways: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1, settle: int = 0) -> Seconds:
    """Time each of the ways once a round, so that a disturbance of the machine meets all of them.

    Every other round goes backwards: no way always follows the same other one.

    Args:
        ways: what is timed, by name.
        repeats: rounds that are timed.
        warm_up: rounds before them that are not.
        settle: how often a way is run, untimed, right before it is timed: where ways leave caches and the allocator
            differently, each finds them as it leaves them itself.
    """
    seconds: Seconds = {name: [] for name in ways}
    for index in range(warm_up + repeats):
        for name in list(ways)[:: -1 if index % 2 else 1]:
            gc.collect()
            for _ in range(settle):
                ways[name]()
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: times[warm_up:] for name, times in seconds.items()}


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Quartiles:
    """How many times faster one way is than another, over the rounds of `take_turns`."""
    return Quartiles.of(s / f for s, f in zip(slow, fast, strict=True))


class PowerLaw(NamedTuple):
    """cost = constant * size ** exponent."""

    exponent: float
    error: float
    """Standard error of the exponent; nan from two points."""


def fit_power_law(sizes: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """Fit an exponent by least squares of logarithms.

    Args:
        sizes: at least two different ones.
        costs: one for each size, above zero.
    """
    x, y = np.log(sizes), np.log(costs)
    x, y = x - x.mean(), y - y.mean()
    exponent = float(x @ y / (x @ x))
    freedom = len(x) - 2
    error = float(np.sqrt(((y - exponent * x) ** 2).sum() / freedom / (x @ x))) if freedom else float("nan")
    return PowerLaw(exponent, error)
