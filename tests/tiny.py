"""Small things to train with: overrides for the smallest simulated data set and the smallest networks."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mmcse.configuration import compose_config
from mmcse.data import FeatureBank
from mmcse.data.segment_labels import write_segment_labels
from mmcse.required import required_values

NETWORK = (
    "model.hidden_dim=16",
    "model.class_dim=8",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.feedforward_dim=8",
)
TRAINING = ("trainer.max_epochs=2", "run.progress=none", "data.batch_size=64", "trainer.accelerator=cpu")


def data(bank: Path) -> tuple[str, str]:
    return "data=bank", f"data.bank={bank}"


def config(bank: Path, root: Path, *overrides: str) -> DictConfig:
    """A training configuration of a tiny MM-CSE on a bank, with runs below `root`."""
    return compose_config("train", (*data(bank), *NETWORK, *TRAINING, f"run.root={root}", *overrides))


def method(*overrides: str) -> list[str]:
    """Overrides that make any method of the suite small, its earlier stages too, by the arguments they have."""
    config = compose_config("train", overrides)
    sizes = dict(size.removeprefix("model.").split("=") for size in (*NETWORK, "model.guide_heads=2"))
    small = [f"model.{name}={size}" for name, size in sizes.items() if name in config.model]
    for name in config.stages or ():
        stage = f"stages.{name}.changes"
        small += [f"+{stage}.model.{name}={sizes[name]}" for name in ("hidden_dim", "num_heads", "feedforward_dim")]
        small += [f"{stage}.trainer.max_epochs=1", f"{stage}.data.batch_size=64"]
    return small


def required(experiment: str, bank: Path, folder: Path) -> list[str]:
    """Overrides that give an experiment what it requires, made up and written to a folder."""
    makers = {"data.segment_labels": _segment_labels, "model.label_embeddings": _label_embeddings}
    return [f"{key}={makers[key](FeatureBank.open(bank), folder)}" for key in required_values(experiment)]


def _segment_labels(bank: FeatureBank, folder: Path) -> Path:
    videos = bank.split("train")
    labels = np.repeat(videos.arrays["weak"][:, None], bank.num_segments, axis=1)
    write_segment_labels(folder / "labels", labels, labels, ids=videos.ids, classes=bank.classes, made={})
    return folder / "labels"


def _label_embeddings(bank: FeatureBank, folder: Path) -> Path:
    file = folder / "embeddings.npy"
    np.save(file, np.random.default_rng(0).standard_normal((len(bank.classes), 300)))
    return file
