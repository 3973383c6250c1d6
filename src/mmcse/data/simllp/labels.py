"""Which events a simulated video holds, in which modality and when: drawn from LLP's label statistics.

The events of a video sit in slots, in the order in which `counts` describes them. Given the label set, each event is
drawn given those before it, so that events leave each other room (or not) as LLP's do.
"""

from dataclasses import dataclass, fields

import numpy as np

from mmcse.data.simllp.counts import LabelCounts, company, coverage, every, segment_coverage, some

PRIOR_STRENGTH = 10.0
"""How many observations the average over all classes is worth when a class's own rate is estimated."""

REDRAWS = 20
"""How often a timeline that came out empty is drawn again."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """The events of N videos in S slots; slots that hold no event have class -1 and empty timelines."""

    classes: np.ndarray
    """(N, S) class indices, decreasing along the slots."""
    extra: np.ndarray
    """(N, S) booleans, the event that train's annotators overlooked."""
    audio: np.ndarray
    """(N, S, T) booleans, the event is audible."""
    visual: np.ndarray
    """(N, S, T) booleans, the event is visible."""

    @property
    def present(self) -> np.ndarray:
        """(N, S) booleans, the slot holds an event."""
        return self.classes >= 0

    def rows(self, rows: slice) -> "Events":
        """The events of some of the videos."""
        return Events(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def mark(self, slots: np.ndarray, num_classes: int) -> np.ndarray:
        """Labels (N, ..., K) from what is true of slots (N, S, ...): booleans, true for no class that has no slot."""
        marked = np.zeros((len(slots), num_classes, *slots.shape[2:]), dtype=bool)
        n, s = np.nonzero(self.present)
        marked[n, self.classes[n, s]] = slots[n, s]
        return np.moveaxis(marked, 1, -1)


class LabelSampler:
    """Draws events; holds the rates that follow from the counts."""

    def __init__(self, counts: LabelCounts, num_segments: int) -> None:
        self.counts, self.num_segments = counts, num_segments
        of_class = counts.modality.sum(axis=1, keepdims=True) + 0.5  # a class's own share decides where counts are few
        kind = counts.modality + PRIOR_STRENGTH * of_class / of_class.sum(axis=2, keepdims=True)
        self.kind = kind / kind.sum(axis=2, keepdims=True)  # (K, company, kind)
        self.same = _rates_by_class(counts.same)
        self.audio_fill = _rates_by_class(counts.audio_fill)
        self.visual_fill = _rates_by_class(counts.visual_fill)
        self.audio_chain = _rates_by_class(counts.audio_chain)
        self.visual_chain = _rate(counts.visual_chain)

    def draw(self, videos: int, rng: np.random.Generator) -> Events:
        """Events of N videos."""
        classes, extra = self._label_sets(videos, rng)
        audible, visible = self._modalities(classes, rng)
        heard, seen = audible.sum(axis=1), visible.sum(axis=1)
        audio = np.zeros((*classes.shape, self.num_segments), dtype=bool)
        visual = np.zeros_like(audio)
        for slot in range(classes.shape[1]):
            n = np.flatnonzero(audible[:, slot])
            before = (heard[n], some(audio[n, :slot], axis=1))
            audio[n, slot] = self._audible(classes[n, slot], visible[n, slot], before, rng)
            n = np.flatnonzero(visible[:, slot])
            before = (seen[n], some(visual[n, :slot], axis=1))
            visual[n, slot] = self._visible(classes[n, slot], audio[n, slot], before, rng)
        return Events(classes=classes, extra=extra, audio=audio, visual=visual)

    def _label_sets(self, videos: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(N, S) classes and which of them is extra: weak labels of train, and now and then one event more."""
        s = self.counts
        sets = np.full((len(s.train_label_sets), 1 + max(len(m) for m, _ in s.train_label_sets)), -1)
        for row, (members, _) in zip(sets, s.train_label_sets, strict=True):
            row[: len(members)] = members
        weight = np.array([n for _, n in s.train_label_sets]) / s.train_videos
        classes = sets[rng.choice(len(sets), size=videos, p=weight)]

        classes[:, -1] = self._extra_class(classes, rng)
        extra = np.zeros_like(classes, dtype=bool)
        extra[:, -1] = classes[:, -1] >= 0
        order = np.argsort(-classes, axis=1, kind="stable")
        return np.take_along_axis(classes, order, axis=1), np.take_along_axis(extra, order, axis=1)

    def _extra_class(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N,) a class that the video does not have yet, or -1: what val and test are labelled with beyond train."""
        s = self.counts
        surplus = s.dense_labels / s.dense_videos - s.train_labels / s.train_videos
        taken = (classes[:, :, None] == np.arange(s.num_classes)).any(axis=1)
        with np.errstate(divide="ignore"):
            log_weight = np.where(taken, -np.inf, np.log(np.maximum(surplus, 0)))
        drawn = np.argmax(log_weight + rng.gumbel(size=taken.shape), axis=1)
        return np.where(rng.random(len(drawn)) < surplus.sum(), drawn, -1)

    def _modalities(self, classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(N, S) booleans each: the event is audible, the event is visible."""
        present = classes >= 0
        audible, visible = np.zeros_like(present), np.zeros_like(present)
        for slot in range(classes.shape[1]):
            context = company(present.sum(axis=1), some(present[:, :slot], axis=1), some(visible[:, :slot], axis=1))
            bounds = self.kind[classes[:, slot], context].cumsum(axis=1)[:, :2]
            kind = (rng.random((len(classes), 1)) > bounds).sum(axis=1)
            audible[:, slot] = present[:, slot] & (kind != 1)
            visible[:, slot] = present[:, slot] & (kind != 0)
        return audible, visible

    def _audible(
        self, classes: np.ndarray, both: np.ndarray, before: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """(n, T) audible timelines of n events; `before` is what `coverage` wants to know."""
        fills = _chance(self.audio_fill[classes, both.astype(int), coverage(*before)], rng)
        chain = draw_chains(self.audio_chain[classes[:, None], segment_coverage(*before)], rng)
        return fills[:, None] | chain

    def _visible(
        self, classes: np.ndarray, audio: np.ndarray, before: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """(n, T) visible timelines of n events, given the audible ones (n, T)."""
        both, audio_fills = some(audio, axis=1), every(audio, axis=1)
        same = both & _chance(self.same[classes, audio_fills.astype(int)], rng)
        fills = ~audio_fills & _chance(self.visual_fill[classes, both.astype(int), coverage(*before)], rng)
        own = np.where(both[:, None], audio.astype(int), 2)
        chain = draw_chains(self.visual_chain[own, segment_coverage(*before)], rng)
        return np.where(same[:, None], audio, fills[:, None] | chain)


def draw_chains(on: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Timelines (n, T) that are not empty, from P(on) by the state before (n, T, state 4).

    One that comes out filling the video stays: drawing it again would leave the videos emptier than LLP's.
    """
    timelines = _markov(on, rng)
    for _ in range(REDRAWS):
        again = np.flatnonzero(~some(timelines, axis=1))
        timelines[again] = _markov(on[again], rng)
    silent = np.flatnonzero(~some(timelines, axis=1))
    timelines[silent, rng.integers(timelines.shape[1], size=len(silent))] = True
    return timelines


def _markov(on: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, T) timelines from P(on) by the state before (n, T, 4), numbered as in `states_before`."""
    n, T, _ = on.shape
    chance = rng.random((n, T))
    timelines = np.empty((n, T), dtype=bool)
    state = np.full(n, 3)
    for t in range(T):
        now = chance[:, t] < on[np.arange(n), t, state]
        begun = (state == 1) | (state == 2)
        state = np.where(now, 1, np.where(begun, 2, 0))
        timelines[:, t] = now
    return timelines


def _chance(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.random(probability.shape) < probability


def _rate(counts: np.ndarray) -> np.ndarray:
    """Rates from counts (..., 2), with half an observation on either side."""
    return (counts[..., 0] + 0.5) / (counts[..., 1] + 1)


def _rates_by_class(counts: np.ndarray) -> np.ndarray:
    """Rates from counts (K, ..., 2), each class's drawn to that of all classes together."""
    return (counts[..., 0] + PRIOR_STRENGTH * _rate(counts.sum(axis=0))) / (counts[..., 1] + PRIOR_STRENGTH)
