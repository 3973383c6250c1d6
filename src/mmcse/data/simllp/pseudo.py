"""Pseudo labels that are wrong as often, and in the same way, as those of VALOR.

A class of the weak label is marked where a score exceeds zero; the score has a mean that depends on the truth and an
error of variance one that a class, a video and a segment share in part. Rates and shares were set so that the
pseudo labels' own scores come close to those of VALOR's on LLP test (segment level A 80.5, V 61.7, AV 55.7, Type 66.0,
Event 74.6), over several worlds.
"""

from statistics import NormalDist

import numpy as np

from mmcse.data.simllp.features import SCENES
from mmcse.data.simllp.settings import SimLLPSettings, stream

RATES = ((0.89, 0.39), (0.86, 0.44))
"""By modality, how often a class of the weak label is marked where it is true and where it is not."""
CLASS_EFFECT = 0.4
"""Spread of how readily the classes are marked."""
SEGMENT_SHARE = 0.2
"""Share of a score's variance that each segment draws for itself; the rest is common to the video."""
CROSS_MODAL_SHARE = 0.8
"""Share of the video's part that the modalities have in common."""


class PseudoLabeller:
    """Marks events in the videos of one world.

    Args:
        settings: `pseudo_noise` scales all errors, `systematic` is the share of scene and class in them.
        world: number of the world.
        frequency: (K,) frequency of the classes; weighted by it, their effects have mean zero.
    """

    def __init__(self, settings: SimLLPSettings, world: int, frequency: np.ndarray) -> None:
        self.settings, self.world = settings, world
        rng, K = stream(world, "pseudo labels"), len(frequency)
        effect = CLASS_EFFECT * rng.standard_normal((2, K))
        self.class_effect = effect - (effect @ frequency / frequency.sum())[:, None]  # (M, K)
        self.scene_effect = rng.standard_normal((2, SCENES, K))

    def mark(self, truth: np.ndarray, weak: np.ndarray, scenes: np.ndarray, split: str) -> np.ndarray:
        """(M, N, T, K) pseudo labels.

        Args:
            truth: (M, N, T, K) booleans, what is audible and visible.
            weak: (N, K) booleans, the weak label.
            scenes: (N,) scene of each video.
            split: name of the split.
        """
        M, N, _, K = truth.shape
        rng = stream(self.world, "pseudo labels", split)
        video = np.sqrt(CROSS_MODAL_SHARE) * rng.standard_normal((1, N, 1, K))
        video = video + np.sqrt(1 - CROSS_MODAL_SHARE) * rng.standard_normal((M, N, 1, K))
        chance = np.sqrt(1 - SEGMENT_SHARE) * video + np.sqrt(SEGMENT_SHARE) * rng.standard_normal(truth.shape)
        fixed = self.scene_effect[:, scenes, None]  # (M, N, 1, K)
        error = np.sqrt(1 - self.settings.systematic) * chance + np.sqrt(self.settings.systematic) * fixed
        error += self.class_effect[:, None, None]

        quantile = np.array([[NormalDist().inv_cdf(p) for p in rates] for rates in RATES])[:, :, None, None, None]
        mean = np.where(truth, quantile[:, 0], quantile[:, 1])
        return (mean + self.settings.pseudo_noise * error > 0) & weak[:, None]
