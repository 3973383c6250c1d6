"""Tracks of a video, as they are decoded, to windows of exact length."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Track:
    """Items along time (samples, frames) that are decoded only as far as they are asked for.

    Args:
        chunks: arrays (n, ...) in order, each with the time in seconds at which the track has ended if nothing follows.
        rate: items per second.
        hold: beyond its end the track goes on with its last item, where others still have material; otherwise, and
            beyond the end of all, with zeros.
    """

    def __init__(self, chunks: Iterable[tuple[np.ndarray, float]], rate: float, *, hold: bool = False) -> None:
        self.rate, self.hold = rate, hold
        self.end = 0.0
        """Seconds of material, as far as it is decoded."""
        self._chunks = iter(chunks)
        self._held: list[np.ndarray] = []
        self._first = self._stop = 0  # items that are held: first, and one past the last

    def decode(self, until: float) -> None:
        """Decode until there is material for so many seconds, or to the end."""
        while min(self.end, self._stop / self.rate) < until:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            array, self.end = chunk
            if len(array):
                self._held.append(array)
                self._stop += len(array)

    def drop(self, before: float) -> None:
        """Forget the items before a time, save the last one."""
        keep = min(round(before * self.rate), self._stop - 1)
        while self._held and self._first + len(self._held[0]) <= keep:
            self._first += len(self._held.pop(0))

    def take(self, start: float, count: int, material: float) -> np.ndarray | None:
        """The items (count, ...) from a time on, where `material` is the end of all tracks; None of an empty track."""
        if not self._held:
            return None
        begin = round(start * self.rate)
        held = np.concatenate(self._held)
        found = held[max(begin - self._first, 0) :][:count]
        window = np.zeros((count, *held.shape[1:]), held.dtype)
        window[: len(found)] = found
        if self.hold:
            stop = min(count, math.ceil((material - start) * self.rate - 1e-6))
            window[len(found) : stop] = held[-1]
        return window


def spans(
    tracks: Sequence[Track], window: float, stride: float, remainder: float
) -> Iterator[tuple[float, float, float]]:
    """The windows of a video one after the other; the tracks are decoded as far as the current one.

    The first window is there whenever there is any material, each further one if it adds at least `remainder` seconds
    that no earlier one has, or if everything before it is skipped by the stride.

    Yields:
        Start of the window, seconds of material in it, and end of the material that is known so far.
    """
    number = 0
    while True:
        start = number * stride
        following = max(start + window, start + stride) + remainder
        for track in tracks:
            track.decode(following)
        material = max((track.end for track in tracks), default=0.0)
        if material <= 0:
            return
        yield start, min(material - start, window), material
        if material < following:
            return
        number += 1
        for track in tracks:
            track.drop(number * stride)
