"""What a simulated video sounds and looks like: events mixed with a scene in a latent space, mapped to features.

All vectors of the latent space (width d) have length about one. A segment's feature is a mixture of whatever happens
in it: the holistic feature that MM-CSE sets out to decouple.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmcse.data.simllp.counts import confusable_groups
from mmcse.data.simllp.labels import Events
from mmcse.data.simllp.settings import SimLLPSettings, stream

VARIANTS = 4
"""Kinds of each class; which one a video has is the same in both modalities."""
SCENES = 16
USUAL_SCENES = 2
"""Scenes that go with a class."""
USUAL_SCENE_CHANCE = 0.7
SCENE_INSTANCE = 0.7
"""How far one video's scene lies from the scene."""
CROSS_MODAL = 0.5
"""Correlation of an event's instance noise between the modalities."""
DRIFT = 0.4
"""How far an event wanders in time."""
DRIFT_MEMORY = 0.7
"""Correlation of that wandering from one segment to the next."""
LOUDNESS = 0.6
"""Spread of the logarithm of an event's loudness (or its size in the picture)."""

CHUNK = 250
"""Videos whose features are computed at a time, which bounds the memory."""


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors (last axis) scaled to length one."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


class FeatureMap:
    """A fixed random map from the latent space to features (..., C) that are partly not linear, of scale one."""

    def __init__(self, rng: np.random.Generator, latent_dim: int, width: int, nonlinearity: float) -> None:
        d = latent_dim
        self.nonlinearity = np.float32(nonlinearity)
        self.linear = _normal(rng, d, width)
        self.inner = np.float32(1.5) * _normal(rng, d, 2 * d)
        self.outer = _normal(rng, 2 * d, width) / np.sqrt(np.float32(2 * d))
        self.offset = _normal(rng, width)
        """(C,) mean that all features of a stream share, as those of trained encoders do."""
        self.scale = np.float32(1)
        self.scale = np.float32(1 / self(unit(_normal(rng, 2048, d))).std())

    def __call__(self, h: np.ndarray) -> np.ndarray:
        """(..., C) features of latents (..., d)."""
        curved = np.tanh(h @ self.inner) @ self.outer
        return self.scale * ((1 - self.nonlinearity) * (h @ self.linear) + self.nonlinearity * curved)


@dataclass(frozen=True)
class Features:
    """Features of n videos in the layout of a bank, float32."""

    audio: np.ndarray
    """(n, T, C) like CLAP's."""
    visual: np.ndarray
    """(n, T, C) like CLIP's: of length one."""
    motion: np.ndarray
    """(n, T, C) like R(2+1)D's: never negative."""


class World:
    """What is fixed in a world: prototypes, variants, scenes and the maps to features.

    Shapes: M modalities, d latent width.
    """

    def __init__(self, settings: SimLLPSettings, world: int) -> None:
        self.settings, self.world = settings, world
        groups = confusable_groups()
        group_of = np.empty(sum(map(len, groups)), dtype=int)
        for number, members in enumerate(groups):
            group_of[members] = number
        K, d, rng = len(group_of), settings.latent_dim, stream(world, "prototypes")
        common, own = unit(_normal(rng, 2, len(groups), d))[:, group_of], unit(_normal(rng, 2, K, d))
        rho = np.float32(settings.rho)
        self.prototypes = unit(np.sqrt(rho) * common + np.sqrt(1 - rho) * own)  # (M, K, d)
        self.variants = unit(_normal(rng, 2, K, VARIANTS, d))
        self.scenes = unit(_normal(rng, 2, SCENES, d))
        self.usual_scenes = rng.integers(SCENES, size=(K, USUAL_SCENES))
        self.audio_map, self.visual_map, self.motion_map = (
            FeatureMap(stream(world, "map", name), d, width, settings.nonlinearity)
            for name, width in settings.widths.items()
        )

    def draw_scenes(self, events: Events, rng: np.random.Generator) -> np.ndarray:
        """(N,) scene of each video: often one that goes with one of its events."""
        N = len(events.classes)
        chosen = np.argmax(events.present * rng.random(events.classes.shape), axis=1)
        usual = self.usual_scenes[events.classes[np.arange(N), chosen], rng.integers(USUAL_SCENES, size=N)]
        return np.where(rng.random(N) < USUAL_SCENE_CHANCE, usual, rng.integers(SCENES, size=N))

    def features(self, events: Events, scenes: np.ndarray, split: str) -> Iterator[Features]:
        """Features of the videos of a split, some at a time."""
        rng = stream(self.world, "features", split)
        for start in range(0, len(scenes), CHUNK):
            rows = slice(start, start + CHUNK)
            yield self._chunk(events.rows(rows), scenes[rows], rng)

    def _chunk(self, events: Events, scenes: np.ndarray, rng: np.random.Generator) -> Features:
        audio, visual = self._mixtures(events, scenes, rng)
        noisy = (unit(x + self._noise(rng, *x.shape)) for x in (audio, visual, visual))
        f_audio, f_visual, f_motion = (
            f(h) for f, h in zip((self.audio_map, self.visual_map, self.motion_map), noisy, strict=True)
        )
        return Features(
            audio=0.5 * (f_audio + self.audio_map.offset),
            visual=unit(f_visual + self.visual_map.offset),
            motion=np.maximum(f_motion + 0.3 * self.motion_map.offset, 0),
        )

    def _mixtures(self, events: Events, scenes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(M, n, T, d) mixtures of what happens in each segment and the scene, free of segment noise."""
        beta, (n, S, T), d = np.float32(self.settings.beta), events.audio.shape, self.settings.latent_dim
        active = np.stack([events.audio, events.visual]).transpose(0, 1, 3, 2)  # (M, n, T, S)
        loudness = np.exp(np.float32(LOUDNESS) * _normal(rng, 2, n, 1, S)) * active
        happening = self._happening(events.classes, T, rng)  # (M, n, T, S, d)
        place = self.scenes[:, scenes] + np.float32(SCENE_INSTANCE / np.sqrt(d)) * _normal(rng, 2, n, d)
        place = beta * place[:, :, None]
        if self.settings.mixture == "max":
            loud = np.where(active[..., None], loudness[..., None] * happening, -np.inf)
            return np.maximum(loud.max(axis=3), place)
        total = (loudness[..., None, :] @ happening)[..., 0, :] + place
        return total if self.settings.mixture == "sum" else total / (loudness.sum(axis=3) + beta)[..., None]

    def _happening(self, classes: np.ndarray, num_segments: int, rng: np.random.Generator) -> np.ndarray:
        """(M, n, T, S, d) the event of each slot by itself: its variant, this instance of it, and its drift."""
        settings, (n, S), d = self.settings, classes.shape, self.settings.latent_dim
        variant = rng.integers(VARIANTS, size=(n, S))
        kind = self.prototypes[:, classes] + np.float32(settings.variants) * self.variants[:, classes, variant]
        shared, own = _normal(rng, n, S, d), _normal(rng, 2, n, S, d)
        instance = np.sqrt(np.float32(CROSS_MODAL)) * shared + np.sqrt(np.float32(1 - CROSS_MODAL)) * own
        steady = kind + np.float32(settings.instance / np.sqrt(d)) * instance
        drift = _normal(rng, 2, n, num_segments, S, d)
        for t in range(1, num_segments):  # AR(1) of variance one
            drift[:, :, t] *= np.float32(np.sqrt(1 - DRIFT_MEMORY**2))
            drift[:, :, t] += np.float32(DRIFT_MEMORY) * drift[:, :, t - 1]
        drift *= np.float32(DRIFT / np.sqrt(d))
        drift += steady[:, :, None]
        return drift

    def _noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        return np.float32(self.settings.noise / np.sqrt(shape[-1])) * _normal(rng, *shape)
