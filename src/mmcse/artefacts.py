"""What the stages of a method leave for each other: files made from a trained network and the training videos.

The first arguments of each function are those of `mmcse.stages.Maker`; what follows is set in the configuration.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmcse.batch import Batch
from mmcse.data.bank import BankSplit
from mmcse.data.datamodule import AVVPDataModule
from mmcse.data.label_changes import RemovedLabels, write_label_changes
from mmcse.objectives.denoising import BatchMean, noise_ratios, write_noise_ratios
from mmcse.objectives.ma import ExchangedProbs, ModalityProbs, draw_partners, exchange_tracks, label_changes
from mmcse.progress import progress_bar

log = logging.getLogger(__name__)


@torch.no_grad()
def estimated_noise(
    network: nn.Module,
    datamodule: AVVPDataModule,
    seed: int,
    file: Path,
    *,
    audio_threshold: float = 0.6,
    visual_threshold: float = 1.8,
    audio_smoothing: float = 0.0,
    visual_smoothing: float = 0.1,
    mean: BatchMean = "batches",
) -> None:
    """JoMoLD: the noise ratios that its estimator finds in the training videos, as `read_noise_ratios` reads them.

    The videos come in the order of the bank, in batches of the training's size. Other arguments as those of
    `mmcse.objectives.denoising.noise_ratios`.
    """
    videos = datamodule.bank.split("train")
    audio, visual = [], []
    for batch in _shown(videos, datamodule.batch_size, "estimating label noise"):
        out = network(batch.audio, batch.visual, batch.motion, auxiliary=False)
        audio.append(out.audio_prob)
        visual.append(out.visual_prob)
    ratios = noise_ratios(
        torch.cat(audio),
        torch.cat(visual),
        _weak(videos),
        datamodule.batch_size,
        audio_threshold=audio_threshold,
        visual_threshold=visual_threshold,
        audio_smoothing=audio_smoothing,
        visual_smoothing=visual_smoothing,
        mean=mean,
    )
    write_noise_ratios(file, ratios, datamodule.bank.classes)


@torch.no_grad()
def exchanged_labels(
    network: nn.Module, datamodule: AVVPDataModule, seed: int, file: Path, *, threshold: float = 0.5
) -> None:
    """MA: the label changes that follow from exchanging tracks, as `read_label_changes` reads them; counts are logged.

    Partners are drawn by the run's seed; where the authors draw them without one, two runs differ.

    Args:
        network: trained by `MAObjective`.
        datamodule: the data.
        seed: draws the partners.
        file: where to write.
        threshold: a probability below it finds nothing.
    """
    videos = datamodule.bank.split("train")
    weak = _weak(videos)
    partners = draw_partners(weak, torch.Generator().manual_seed(seed))
    found: list[ExchangedProbs] = []
    for batch, other in zip(
        _shown(videos, datamodule.batch_size, "exchanging tracks"),
        videos.batches(datamodule.batch_size, partners.numpy()),
        strict=True,
    ):
        found.append(exchange_tracks(network, batch, other))
    probs = ExchangedProbs(*(ModalityProbs(*map(torch.cat, zip(*of, strict=True))) for of in zip(*found, strict=True)))
    changes = label_changes(weak, probs, threshold)
    removed = RemovedLabels(changes.audio.numpy(), changes.visual.numpy())
    write_label_changes(file, removed, videos.ids, datamodule.bank.classes)
    for line in removed.lines(videos.arrays["weak"], datamodule.bank.classes):
        log.warning("Label changes: %s", line)


def _shown(videos: BankSplit, size: int, description: str) -> Iterable[Batch]:
    """All videos in batches, with a progress bar."""
    total = -(-len(videos) // size)
    return progress_bar(videos.batches(size), total=total, description=description, unit="batches")


def _weak(videos: BankSplit) -> Tensor:
    return torch.from_numpy(videos.arrays["weak"].astype(np.float32))
