"""What a user can set about simulated data, and where its randomness comes from."""

from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, Self, get_args
from zlib import crc32

import numpy as np

from mmcse.errors import UserError
from mmcse.vocabulary import near_miss

SPLITS = ("train", "val", "test")

VERSION = 1
"""Of the generator: raised whenever the same settings give other data."""

MAX_VIDEOS, MAX_WORLD = 1_000_000, 99_999
"""More would not fit into the ids."""

Mixture = Literal["mean", "sum", "max"]


@dataclass(frozen=True, kw_only=True)
class SimLLPSettings:
    """Size and difficulty of one simulated LLP; the defaults are preset "small".

    Lengths of feature noise are relative to prototypes of length one. The defaults were fixed by the statistics of
    LLP's labels and the quality of VALOR's pseudo labels, not by how any method scores.

    Raises:
        UserError: a value is out of its range.
    """

    train: int = 800
    """Videos of the training split."""
    val: int = 150
    """Videos of the validation split."""
    test: int = 300
    """Videos of the test split."""
    num_segments: int = 10
    """T; an event's share of the video keeps LLP's distribution only at 10."""

    audio_dim: int = 768
    """Width of the CLAP-like stream."""
    visual_dim: int = 768
    """Width of the CLIP-like stream."""
    motion_dim: int = 512
    """Width of the R(2+1)D-like stream."""
    latent_dim: int = 64
    """Width of the space in which events are mixed before they become features."""

    rho: float = 0.4
    """Share of a class prototype that its confusable group has in common, 0 to 1."""
    variants: float = 0.5
    """How far the four variants of a class (breeds, models, tunes) lie from its prototype."""
    instance: float = 0.6
    """How far one video's event lies from its variant."""
    beta: float = 0.7
    """Loudness of the scene; an event's is about one."""
    noise: float = 0.24
    """Noise of every segment."""
    mixture: Mixture = "mean"
    """How the events of a segment and the scene become one holistic vector."""
    nonlinearity: float = 0.85
    """Share of the latent-to-feature maps that is not linear, 0 to 1."""

    pseudo_noise: float = 1.0
    """Dial of the pseudo labels' errors: 0 none (truth where the weak label allows), 1 as many as VALOR's have."""
    systematic: float = 0.0
    """Share of those errors that is a fixed function of scene and class instead of chance, 0 to 1."""
    extra_missing_in_train: bool = True
    """Whether the weak labels of train lack the extra events that LLP's annotators found only in val and test."""

    def __post_init__(self) -> None:
        for name in SPLITS:
            self._demand(name, 1 <= getattr(self, name) <= MAX_VIDEOS, f"between 1 and {MAX_VIDEOS:,}")
        for name in ("num_segments", "audio_dim", "visual_dim", "motion_dim", "latent_dim"):
            self._demand(name, getattr(self, name) >= 1, "at least 1")
        for name in ("rho", "nonlinearity", "systematic"):
            self._demand(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("variants", "instance", "noise", "pseudo_noise"):
            self._demand(name, getattr(self, name) >= 0, "at least 0")
        self._demand("beta", self.beta > 0, "above 0")
        self._demand("mixture", self.mixture in get_args(Mixture), f"one of {', '.join(get_args(Mixture))}")

    def _demand(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UserError(f"SimLLP: {name} is {getattr(self, name)!r}, expected {expected}.")

    def but(self, **changes: Any) -> Self:
        """Copy with some fields changed.

        Raises:
            UserError: a name is no setting, or a value is out of its range.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                hint = near_miss(name, known)
                raise UserError(f"SimLLP has no setting {name!r}.{hint} Settings: {', '.join(known)}.")
        return replace(self, **changes)

    @property
    def num_videos(self) -> int:
        """Videos of all splits together."""
        return self.train + self.val + self.test

    @property
    def widths(self) -> dict[str, int]:
        """Width C of each stream of features."""
        return {"audio": self.audio_dim, "visual": self.visual_dim, "motion": self.motion_dim}

    def describe(self, world: int) -> dict[str, Any]:
        """What identifies the data: generator, version, world and every setting; JSON can hold it."""
        return {"generator": "SimLLP", "version": VERSION, "world": world, **asdict(self)}


_HARD: dict[str, Any] = {"rho": 0.5, "variants": 0.6, "instance": 0.8, "beta": 1.0, "noise": 0.5}

PRESETS = MappingProxyType(
    {
        "smoke": SimLLPSettings(train=128, val=32, test=64),
        "small": SimLLPSettings(),
        "full": SimLLPSettings(train=10_000, val=649, test=1_200, **_HARD),
    }
)
"""smoke: seconds, scores stay at the floor. small: minutes. full: the size of LLP; so many videos need the harder
level, at which a linear probe stays well below the networks."""


def preset_settings(preset: str, **overrides: Any) -> SimLLPSettings:
    """Settings of a preset with some of them overridden.

    Raises:
        UserError: no such preset or setting, or a value out of its range.
    """
    if preset not in PRESETS:
        hint = near_miss(preset, PRESETS)
        raise UserError(f"SimLLP has no preset {preset!r}.{hint} Presets: {', '.join(PRESETS)}.")
    return PRESETS[preset].but(**overrides)


def stream(world: int, *purpose: str) -> np.random.Generator:
    """Random numbers of one purpose in one world, independent of every other purpose's.

    Two splits, or labels and features, never share a stream: changing how many numbers one of them draws leaves the
    others as they were.

    Raises:
        UserError: there is no world of that number.
    """
    if not 0 <= world <= MAX_WORLD:
        raise UserError(f"SimLLP: world is {world}, expected a whole number from 0 to {MAX_WORLD}.")
    return np.random.default_rng([world, *(crc32(word.encode()) for word in purpose)])
