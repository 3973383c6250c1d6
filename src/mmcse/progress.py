"""Progress of long work: a bar in a terminal, now and then a line in a log."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines of a log; work that takes less says nothing there."""


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    total: int,
    description: str,
    unit: str,
    initial: int = 0,
    enabled: bool = True,
) -> "tqdm[Any]":
    """Show on standard error how far long work is, and how long it will take.

    Args:
        iterable: what is worked through; without it, say `update(n)`.
        total: how many there are.
        description: what is being done.
        unit: what is counted, in the plural.
        initial: how many were done before.
        enabled: False shows nothing.

    Returns:
        A context manager with `update(n)`, and an iterable over the items where there are any.
    """
    kind = tqdm if sys.stderr.isatty() else _Lines
    return kind(iterable, description, total, unit=f" {unit}", initial=initial, disable=not enabled)


class _Lines(tqdm):
    """A bar for files: whole lines that stay, each some time after the one before."""

    monitor_interval = 0  # no thread that draws in between

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        line = "{desc}: {n_fmt}/{total_fmt}{unit}, {remaining} left"
        super().__init__(*args, miniters=1, mininterval=EVERY, delay=EVERY, leave=False, bar_format=line, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Print a line that is due; the empty one is tqdm's way to wipe a bar."""
        if msg != "":
            print(self, file=sys.stderr, flush=True)
