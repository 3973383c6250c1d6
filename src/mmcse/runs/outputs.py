"""What a checkpoint says about every video of a split, as arrays: what figures, reports and notebooks are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.configuration import compose_config
from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.evaluate import prepare_evaluation
from mmcse.evaluation.decode import Gate
from mmcse.models.decoupling import stack_modalities
from mmcse.parser import VideoParser

SAMPLE = 500
"""Segments whose features are kept on request: enough for a t-SNE, and quick."""


@dataclass(frozen=True)
class SegmentFeatures:
    """Features inside the network for a sample of n segments, in the order of the split."""

    holistic: np.ndarray
    """(n, 2, D) float32, before decoupling."""
    event_features: np.ndarray
    """(n, 2, K, d) float32, decoupled by class."""
    true: np.ndarray
    """(n, 2, K) bool, the annotation of the same segments."""
    background: np.ndarray | None = None
    """(n, 2, d) float32; None for a network that decouples no background."""


@dataclass(frozen=True)
class SplitOutputs:
    """A checkpoint's probabilities, decisions and maps on a split, beside the truth."""

    ids: tuple[str, ...]
    """The N videos."""
    classes: tuple[str, ...]
    """The vocabulary, K names in order."""
    kind: Kind
    """What the videos' features are: "real", "simulated" or "fixture"."""
    method: str
    """The network and its seed, in a few words."""
    title: str
    """The method, and the split that it parsed."""
    segment_prob: np.ndarray
    """(N, T, 2, K) float32, audio first."""
    video_prob: np.ndarray
    """(N, K) float32, pooled over segments and modalities; may exceed one."""
    audio_prob: np.ndarray
    """(N, K) float32, pooled over the audio segments."""
    visual_prob: np.ndarray
    """(N, K) float32, pooled over the visual segments."""
    passed: np.ndarray
    """(N, 2, K) bool, which events the gate lets through: their video-level probability suffices."""
    predicted: np.ndarray
    """(N, T, 2, K) bool, decided by gate and threshold."""
    true: np.ndarray
    """(N, T, 2, K) bool, annotated."""
    weak: np.ndarray
    """(N, K) bool, video-level labels."""
    gate: Gate
    threshold: float
    cooccurrence: dict[str, np.ndarray] | None = None
    """(K, K) float64 maps, queries by keys, averaged over videos and segments (paper, Figure 4); None for a network
    without maps."""
    features: SegmentFeatures | None = None
    """Only where they were asked for."""


def parse_split(
    checkpoint: Path, split: str = "test", overrides: Sequence[str] = (), *, features: bool = False
) -> SplitOutputs:
    """Parse every video of a split with a checkpoint's network, whatever its method.

    Args:
        checkpoint: of a run, or a folder that `mmcse import` wrote.
        split: "val" or "test".
        overrides: as `mmcse eval` takes them, for example `["data=bank", "data.bank=FOLDER"]`; what is not given comes
            from the checkpoint.
        features: also keep the decoupled features of a sample of segments.

    Raises:
        UserError: the checkpoint or the data cannot be used, or do not fit each other; or features were asked of a
            network that decouples none.
    """
    config = compose_config("eval", overrides)
    config.checkpoint, config.split = str(checkpoint), split
    card, parser, datamodule, loader, trainer = prepare_evaluation(config)
    bank = datamodule.bank
    device, network = trainer.strategy.root_device, parser.network.eval()
    network.to(device)
    wanted = _sample(len(bank.split(split)) * bank.num_segments)

    videos: list[dict[str, np.ndarray]] = []
    maps: dict[str, np.ndarray] = {}
    sampled: list[dict[str, np.ndarray]] = []
    first = 0
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for batch in loader:
            batch = batch.to(device)
            out: ParserOutput = network(batch.audio, batch.visual, batch.motion)
            videos.append(_of_videos(out, parser, batch))
            for name, of_batch in (out.cooccurrence or {}).items():
                maps[name] = maps.get(name, 0) + of_batch.cpu().double().sum(dim=(0, 1)).numpy()
            segments = len(batch) * bank.num_segments
            if features:
                inside = wanted[(wanted >= first) & (wanted < first + segments)] - first
                sampled.append(_of_segments(out, inside, videos[-1]["true"]))
            first += segments
    return SplitOutputs(
        ids=bank.split(split).ids,
        classes=tuple(bank.classes),
        kind=bank.kind,
        method=_method(card),
        title=f"{_method(card)}, {split}",
        gate=parser.gate,
        threshold=parser.threshold,
        cooccurrence={name: total / first for name, total in maps.items()} or None,
        features=SegmentFeatures(**_joined(sampled)) if features else None,
        **_joined(videos),
    )


def _sample(segments: int) -> np.ndarray:
    """Positions of a sample of all segments of a split, in order; the same ones for every network."""
    return np.sort(np.random.default_rng(0).choice(segments, min(SAMPLE, segments), replace=False))


def _of_videos(out: ParserOutput, parser: VideoParser, batch: Batch) -> dict[str, np.ndarray]:
    assert batch.true_audio is not None  # val and test are annotated densely
    assert batch.true_visual is not None
    sure = ParserOutput(  # only the gate can refuse it
        segment_logits=torch.full_like(out.segment_logits, torch.inf),
        video_prob=out.video_prob,
        audio_prob=out.audio_prob,
        visual_prob=out.visual_prob,
    )
    return {
        "segment_prob": _floats(out.segment_prob),
        "video_prob": _floats(out.video_prob),
        "audio_prob": _floats(out.audio_prob),
        "visual_prob": _floats(out.visual_prob),
        "passed": stack_modalities(*parser.decide(sure))[:, 0].cpu().numpy(),
        "predicted": stack_modalities(*parser.decide(out)).cpu().numpy(),
        "true": stack_modalities(batch.true_audio, batch.true_visual).bool().cpu().numpy(),
        "weak": batch.weak.bool().cpu().numpy(),
    }


def _of_segments(out: ParserOutput, rows: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Features and truth of some of a batch's segments, which are counted through all of its videos."""
    if out.holistic is None or out.event_features is None:
        raise UserError("This network does not decouple features by class; only those of MM-CSE do (decoupling).")
    chosen = {
        "holistic": _floats(out.holistic.flatten(0, 1)[rows]),
        "event_features": _floats(out.event_features.flatten(0, 1)[rows]),
        "true": true.reshape(-1, *true.shape[2:])[rows],
    }
    if out.background_features is not None:
        chosen["background"] = _floats(out.background_features.flatten(0, 1)[rows])
    return chosen


def _joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _floats(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def _method(card: dict[str, Any]) -> str:
    network = card["model"]["_target_"].rpartition(".")[2]
    return f"{network}, seed {card['seed']}" if "seed" in card else f"{network}, imported"
