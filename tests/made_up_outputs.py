"""Arrays as a parser would give them, of videos that never were."""

import numpy as np

from mmcse.runs.outputs import SegmentFeatures, SplitOutputs

CLASSES = ("Speech", "Frying_(food)", "Dog", "Cello")


def outputs(num_videos=6, num_segments=10, classes=CLASSES, kind="simulated", seed=0, **more):
    """Events in runs, a parser that is right about four times in five, and maps and features of the right shapes."""
    rng = np.random.default_rng(seed)
    N, T, K = num_videos, num_segments, len(classes)
    onset = rng.integers(0, T, (N, 1, 2, K))
    time = np.arange(T)[None, :, None, None]
    true = (time >= onset) & (time < onset + rng.integers(1, T, (N, 1, 2, K))) & (rng.random((N, 1, 2, K)) < 0.6)
    probability = np.clip(0.2 + 0.6 * true + 0.25 * rng.standard_normal(true.shape), 0.01, 0.99).astype(np.float32)
    passed = rng.random((N, 2, K)) < 0.9
    maps = rng.random((4, K, K)) + np.eye(K)
    maps /= maps.sum(axis=-1, keepdims=True)
    labels = true.reshape(-1, 2, K)
    made = {
        "ids": tuple(f"video{i:06d}" for i in range(N)),
        "classes": tuple(classes),
        "kind": kind,
        "method": "Network, seed 0",
        "title": "Network, seed 0, test",
        "segment_prob": probability,
        "video_prob": probability.mean(axis=(1, 2)),
        "audio_prob": probability[:, :, 0].mean(axis=1),
        "visual_prob": probability[:, :, 1].mean(axis=1),
        "passed": passed,
        "predicted": (probability >= 0.5) & passed[:, None],
        "true": true,
        "weak": true.any(axis=(1, 2)),
        "gate": "video/visual",
        "threshold": 0.5,
        "cooccurrence": dict(zip(("aa", "av", "va", "vv"), maps, strict=True)),
        "features": SegmentFeatures(
            holistic=rng.standard_normal((len(labels), 2, 5)),
            event_features=3 * np.eye(K)[:, :3] + 0.2 * rng.standard_normal((len(labels), 2, K, 3)),
            background=0.2 * rng.standard_normal((len(labels), 2, 3)) - 2,
            true=labels,
        ),
    }
    return SplitOutputs(**made | more)


def history(num_epochs=12):
    epoch = np.arange(1, num_epochs + 1.0)
    return {
        "epoch": epoch,
        "lr": np.full(num_epochs, 3e-4),
        "val/segment/Type": 60 - 50 / epoch,
        "val/Avg": 55 - 45 / epoch,
        "train/total": 1 / epoch,
        "train/video": 0.4 / epoch,
        "train/orthogonality": 0.1 / epoch**2,
    }
