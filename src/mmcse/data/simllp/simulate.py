"""A world of SimLLP and the videos in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase, digits
from typing import Any

import numpy as np

from mmcse.data.simllp.counts import shipped_counts
from mmcse.data.simllp.features import Features, World
from mmcse.data.simllp.labels import Events, LabelSampler
from mmcse.data.simllp.pseudo import PseudoLabeller
from mmcse.data.simllp.settings import SPLITS, SimLLPSettings, stream


@dataclass(frozen=True, kw_only=True)
class SimulatedLabels:
    """Everything about the videos of a split but their features; labels are booleans."""

    split: str
    ids: np.ndarray
    """(N,) ids of 11 characters, as long as YouTube's; unique over all worlds and splits."""
    weak: np.ndarray
    """(N, K) video-level labels, as an annotator would give them."""
    true_audio: np.ndarray
    """(N, T, K) audible events."""
    true_visual: np.ndarray
    """(N, T, K) visible events."""
    pseudo_audio: np.ndarray
    """(N, T, K) pseudo labels of what is audible."""
    pseudo_visual: np.ndarray
    """(N, T, K) pseudo labels of what is visible."""
    events: Events
    """The events that the labels were made of."""
    scenes: np.ndarray
    """(N,) number of the scene that each video plays in."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The labels by the names that a feature bank has for them."""
        names = ("ids", "weak", "true_audio", "true_visual", "pseudo_audio", "pseudo_visual")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class SimulatedSplit(SimulatedLabels):
    """A split in memory."""

    audio: np.ndarray
    """(N, T, C) audio features, float32."""
    visual: np.ndarray
    """(N, T, C) appearance features, float32."""
    motion: np.ndarray
    """(N, T, C) motion features, float32."""


class SimLLP:
    """One simulated LLP: labels of a split at once, features in pieces.

    Every split, and labels, features and pseudo labels within it, have random numbers of their own, so that changing
    one leaves the others as they are.

    Args:
        settings: size and difficulty.
        world: number of the world, from 0 up. Worlds differ in all that is random; scores of models are comparable
            within a world only.

    Raises:
        UserError: there is no world of that number.
    """

    def __init__(self, settings: SimLLPSettings, world: int = 0) -> None:
        self.settings, self.world = settings, world
        counts = shipped_counts()
        self.num_classes = counts.num_classes
        self._sampler = LabelSampler(counts, settings.num_segments)
        self._world = World(settings, world)
        self._labeller = PseudoLabeller(settings, world, counts.dense_labels)

    def labels(self, split: str) -> SimulatedLabels:
        """Labels of all videos of "train", "val" or "test"."""
        count, K = getattr(self.settings, split), self.num_classes
        events = self._sampler.draw(count, stream(self.world, "events", split))
        scenes = self._world.draw_scenes(events, stream(self.world, "scenes", split))
        overlooked = events.extra & (split == "train" and self.settings.extra_missing_in_train)
        weak = events.mark(events.present & ~overlooked, K)
        truth = np.stack([events.mark(events.audio, K), events.mark(events.visual, K)])
        pseudo = self._labeller.mark(truth, weak, scenes, split)
        return SimulatedLabels(
            split=split,
            ids=_ids(self.world, split, count),
            weak=weak,
            true_audio=truth[0],
            true_visual=truth[1],
            pseudo_audio=pseudo[0],
            pseudo_visual=pseudo[1],
            events=events,
            scenes=scenes,
        )

    def features(self, labels: SimulatedLabels) -> Iterator[Features]:
        """Features of a split's videos in order, a few hundred at a time."""
        return self._world.features(labels.events, labels.scenes, labels.split)


def simulate(settings: SimLLPSettings, world: int = 0) -> dict[str, SimulatedSplit]:
    """Simulate the three splits in memory; the full preset needs more than a gigabyte (`simulated_bank` does not).

    Args:
        settings: size and difficulty, such as `PRESETS["smoke"]`.
        world: number of the world.

    Raises:
        UserError: there is no world of that number.
    """
    simulation = SimLLP(settings, world)
    return {split: _in_memory(simulation, split) for split in SPLITS}


def _in_memory(simulation: SimLLP, split: str) -> SimulatedSplit:
    labels = simulation.labels(split)
    pieces = list(simulation.features(labels))
    features: dict[str, Any] = {
        name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("audio", "visual", "motion")
    }
    return SimulatedSplit(**vars(labels), **features)


def _ids(world: int, split: str, count: int) -> np.ndarray:
    """(N,) ids such as "sim00a0002f": world and split (4 characters), then the number of the video (4)."""
    prefix = f"sim{_base36(len(SPLITS) * world + SPLITS.index(split), 4)}"
    return np.array([prefix + _base36(number, 4) for number in range(count)])


def _base36(number: int, length: int) -> str:
    text = ""
    for _ in range(length):
        number, digit = divmod(number, 36)
        text = (digits + ascii_lowercase)[digit] + text
    return text
