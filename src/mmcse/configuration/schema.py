"""The keys of configurations, their types and their defaults."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class RunSettings:
    """Where a run goes and how it is shown."""

    name: str = MISSING
    """Folder of this run's kind, below `root`: the experiment, or else the model."""
    root: str = "runs"
    """Folder of all runs."""
    force: bool = False
    """Start anew, even where the same run has finished or can be resumed."""
    progress: str = "auto"
    """"bar", "lines", "none", or "auto": a bar in a terminal, lines elsewhere."""
    tags: list[str] = field(default_factory=list)
    """Free words that are kept in the record."""


@dataclass
class EvaluationSettings:
    """How probabilities become decisions, and which epoch is kept."""

    gate: str = MISSING
    """Video-level probabilities that gate audio/visual segments; belongs to the method."""
    threshold: float = 0.5
    """Least probability of a decision."""
    gate_threshold: float | None = None
    """Least video-level probability of the gate; None: the threshold."""
    search_thresholds: int | None = None
    """After this epoch (from 1), thresholds of the visual gate are searched for each class, on validation (CMPAE)."""
    test_pair: bool | None = None
    """Test two copies of the network, of the epochs that were best for audio and for visual (DHHN)."""
    patience: int | None = None
    """Training ends after so many epochs without a better score, the one of `select` (CVCMS); None: never."""
    select: str = "val/segment/Type"
    """The score whose best epoch is tested, or "last". On validation, never on test."""
    select_on_test: bool = False
    """As published by some: validate, and so select, on the test videos. The record, and all that is made of it, says
    so. Such scores are no estimate of anything."""


@dataclass
class TrainSettings:
    """The keys of a training configuration; those that hold objects are checked against their signatures."""

    seed: int = MISSING
    threads: int | None = None
    micro_batch: int | None = 32
    """Videos that go through the network at a time when training on a CPU; the gradient is the whole batch's."""
    compile: bool = False
    """Train with the network compiled by PyTorch, where that is seen to give the same."""
    kernels: bool = False
    """Compute MM-CSE on a CPU with operators in C++, which are built once (`mmcse.models.kernels`)."""
    packages: list[str] = field(default_factory=list)
    run: RunSettings = field(default_factory=RunSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    data: Any = MISSING
    model: Any = MISSING
    objective: Any = MISSING
    optimizer: Any = MISSING
    rates: Any = None
    """Learning rates of parts of the network, by the name of the module; the rest has the optimizer's."""
    scheduler: Any = None
    trainer: Any = MISSING
    stages: Any = None
    """What a method of several stages does before its own training, see `mmcse.stages`."""
    logger: Any = None


@dataclass
class EvalSettings:
    """The keys of an evaluation configuration; what is None comes from the checkpoint."""

    checkpoint: str = MISSING
    """A checkpoint of a run, or a folder that `mmcse import` wrote."""
    split: str = "test"
    """"val" or "test"."""
    gate: str | None = None
    threshold: float | None = None
    gate_threshold: float | None = None
    """Least video-level probability of the gate, also in place of thresholds of each class."""
    visual_thresholds: list[float] | None = None
    """One for each class in the gate of the visual segments (CMPAE); conf/thresholds has the released ones."""
    durations: bool = False
    """Also score events by their duration; on with `json` and `predictions`."""
    json: str | None = None
    """File for all scores in full precision."""
    predictions: str | None = None
    """File (.npz) for the decisions of every video, as `mmcse score` reads them."""
    kernels: bool = False
    """As in training."""
    packages: list[str] = field(default_factory=list)
    seed: int = 0
    data: Any = None
    trainer: Any = MISSING
