"""Data at the edge of what makes sense: each is trained on, evaluated and scored like any other."""

import math

import numpy as np
import pytest

import tiny
from mmcse.configuration import compose_config
from mmcse.data import BankWriter, FeatureBank
from mmcse.evaluate import evaluate
from mmcse.evaluation import parsing_scores
from mmcse.train import train

METHODS = ("mmcse", *(pytest.param(method, marks=pytest.mark.slow) for method in ("han", "valor")))


def write_bank(folder, *, videos=(5, 3, 3), T=4, K=3, label=None, widths=(6, 5, 4)):
    """A bank of random features and labels; `label` changes each array of labels."""
    rng = np.random.default_rng(0)
    writer = BankWriter(folder, kind="fixture", source={}, classes=[f"class {k}" for k in range(K)], num_segments=T)
    for split, N in zip(("train", "val", "test"), videos, strict=True):
        writer.put(split, "ids", np.array([f"{split}{n:06d}" for n in range(N)]))
        for name, width in zip(("audio", "visual", "motion"), widths, strict=True):
            writer.put(split, name, rng.standard_normal((N, T, width), dtype=np.float32))
        for name in ("weak", "pseudo_audio", "pseudo_visual", "true_audio", "true_visual"):
            labels = rng.random((N, K) if name == "weak" else (N, T, K)) < 0.5
            writer.put(split, name, labels if label is None else label(labels))
    return writer.finish().folder


def without_last_class(labels):
    labels[..., -1] = False
    return labels


EDGES = {
    "one class": {"K": 1},
    "one segment": {"T": 1},
    "one class, one segment, one video": {"K": 1, "T": 1, "videos": (1, 1, 1)},
    "one video a split": {"videos": (1, 1, 1)},
    "a batch of one video at the end": {"videos": (5, 3, 3)},
    "a class that never occurs": {"label": without_last_class},
    "nothing but background": {"label": np.zeros_like},
    "everything everywhere": {"label": np.ones_like},
    "features one number wide": {"widths": (1, 1, 1)},
}
FAST = ("one class, one segment, one video", "nothing but background")
ALL = [edge if edge in FAST else pytest.param(edge, marks=pytest.mark.slow) for edge in EDGES]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("edge", ALL)
def test_training_evaluation_and_scores(tmp_path, evidence, method, edge):
    folder = write_bank(tmp_path / "bank", **EDGES[edge])
    network = tiny.NETWORK if method == "mmcse" else [o for o in tiny.NETWORK if "class_dim" not in o]
    overrides = [f"model={method}", *network, *tiny.TRAINING, f"run.root={tmp_path}", "data.batch_size=2", "threads=1"]
    run = train(compose_config("train", [*tiny.data(folder), *overrides]))
    assert all(math.isfinite(loss) for loss in run.record["losses"].values())
    checkpoint, predictions = run.folder / "checkpoints" / "best.ckpt", tmp_path / "predictions.npz"
    words = [f"checkpoint={checkpoint}", f"predictions={predictions}", "trainer.accelerator=cpu"]
    result = evaluate(compose_config("eval", words))
    assert result["scores"] == run.record["scores"]["test"]
    truth = FeatureBank.open(folder).split("test").arrays
    with np.load(predictions) as saved:
        scores = parsing_scores(saved["audio"], saved["visual"], truth["true_audio"], truth["true_visual"])
    for name, score in scores.items():
        assert 0 <= score <= 100
        assert score == pytest.approx(result["scores"][name])
    evidence(inputs=1)


@pytest.mark.parametrize("labels", [np.zeros, np.ones])
def test_videos_in_which_nothing_or_everything_happens_have_scores(labels):
    both = labels((2, 4, 3), bool)
    scores = parsing_scores(both, both, both, both)
    assert all(math.isfinite(score) for score in scores.values())
    assert labels is np.zeros or set(scores.values()) == {100.0}
