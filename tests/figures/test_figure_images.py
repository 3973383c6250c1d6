"""Every figure against the picture of it that somebody looked at."""

import numpy as np
import pytest

from made_up_outputs import CLASSES, history, outputs
from mmcse.figures import (
    ablation_bars,
    class_scores,
    confusion_maps,
    cooccurrence_maps,
    embedding,
    reliability_diagram,
    threshold_map,
    timeline,
    training_curves,
)

MADE = outputs()
SHOWN = {"kind": "simulated", "title": "A figure"}


def draw_timeline(made=MADE):
    return timeline({"ours": made.predicted[0], "theirs": made.true[1]}, made.true[0], CLASSES, **SHOWN)


def draw_timeline_without_truth():
    return timeline({"ours": MADE.predicted[0]}, None, CLASSES, kind="real", title="A figure", segment_seconds=0.5)


def draw_cooccurrence():
    return cooccurrence_maps(MADE.cooccurrence, CLASSES, **SHOWN)


def draw_confusion():
    return confusion_maps(MADE.predicted, MADE.true, CLASSES, **SHOWN)


def draw_embedding(monkeypatch):
    # t-SNE itself gives other positions on other machines
    monkeypatch.setattr("mmcse.figures.features.tsne", lambda features, seed: features[:, :2])
    f = MADE.features
    return embedding(f.holistic[:, 0], f.true[:, 0], f.event_features[:, 0], f.background[:, 0], CLASSES, **SHOWN)


def draw_ablation():
    values = {"full": [60.0, 61.0, 62.5], "w/o A": [57.0, 57.5, 60.0], "not run": []}
    changes = {"w/o A": [-3.0, -3.5, -2.5]}
    return ablation_bars(values, changes=changes, reference="full", **SHOWN)


def draw_ablation_beside_paper():
    return ablation_bars({"full": [60.0, 61.0], "one": [59.0]}, kind="real", title="A figure", paper={"full": 65.4})


def draw_class_scores():
    scores = {"A": np.array([90.0, 40, np.nan, 75]), "V": np.array([80.0, 60, np.nan, np.nan])}
    return class_scores(scores, CLASSES, counts=np.array([40, 3, 0, 12]), **SHOWN)


def draw_curves():
    return training_curves(history(), best_epoch=9, **SHOWN)


def draw_reliability():
    return reliability_diagram(MADE.segment_prob, MADE.true, **SHOWN)


def draw_thresholds():
    return threshold_map(MADE.segment_prob, MADE.true, CLASSES, passed=MADE.passed, **SHOWN)


@pytest.mark.parametrize(
    "draw",
    [
        draw_timeline,
        draw_timeline_without_truth,
        draw_cooccurrence,
        draw_confusion,
        draw_ablation,
        draw_ablation_beside_paper,
        draw_class_scores,
        draw_curves,
        draw_reliability,
        draw_thresholds,
    ],
)
def test_figure_looks_as_before(draw, looks_as_before):
    assert looks_as_before(draw(), draw.__name__.removeprefix("draw_")) is None


def test_embedding_looks_as_before(monkeypatch, looks_as_before):
    assert looks_as_before(draw_embedding(monkeypatch), "embedding") is None


def test_the_comparison_notices_one_segment(monkeypatch, looks_as_before):
    monkeypatch.delenv("MMCSE_NEW_BASELINES", raising=False)
    made = outputs()
    t, m, k = np.argwhere(made.true[0])[0]
    made.predicted[0, t, m, k] ^= True
    assert "RMS" in looks_as_before(draw_timeline(made), "timeline")
