"""Simulated labels against LLP's: each number is compared over several worlds, within the tolerance it states."""

import numpy as np
import pytest

from mmcse.data import read_annotations
from mmcse.data.simllp.counts import shipped_counts, states_before
from mmcse.data.simllp.labels import LabelSampler, draw_chains
from mmcse.data.simllp.settings import PRESETS
from mmcse.data.simllp.simulate import SimLLP

WORLDS = range(5)

LLP = {
    "empty audio segments": 0.103,
    "empty visual segments": 0.196,
    "silent videos": 0.005,
    "videos with nothing to see": 0.103,
    "audible cells": 12.26,
    "visible cells": 9.68,
    "audio-visual cells": 7.93,
    "audible events": 1.742,
    "visible events": 1.189,
    "audible runs per event": 1.266,
    "visible runs per event": 1.129,
    "same timeline in both": 0.366,
}
"""Of LLP's validation and test videos together; cells, events: per video."""
TOLERANCE = {
    "empty audio segments": 0.01,
    "empty visual segments": 0.01,
    "silent videos": 0.006,
    "videos with nothing to see": 0.015,
    "audible cells": 0.2,
    "visible cells": 0.2,
    "audio-visual cells": 0.15,
    "audible events": 0.04,
    "visible events": 0.03,
    "audible runs per event": 0.05,
    "visible runs per event": 0.05,
    "same timeline in both": 0.035,
}
DURATIONS = {
    "audio": (0.058, 0.073, 0.064, 0.075, 0.062, 0.065, 0.068, 0.063, 0.063, 0.410),
    "visual": (0.029, 0.042, 0.045, 0.046, 0.040, 0.052, 0.042, 0.047, 0.035, 0.621),
}
"""Share of LLP's events that are on in 1, 2 ... 10 segments."""
ONSETS = {
    "audio": (0.672, 0.077, 0.061, 0.036, 0.034, 0.029, 0.033, 0.026, 0.017, 0.015),
    "visual": (0.808, 0.041, 0.031, 0.025, 0.017, 0.018, 0.024, 0.018, 0.010, 0.008),
}
"""Share of LLP's events that are first on in segment 0, 1 ... 9."""


def summary(audio: np.ndarray, visual: np.ndarray) -> dict[str, float]:
    N = len(audio)
    audible, visible = audio.any(axis=1), visual.any(axis=1)
    same = (audio == visual).all(axis=1) & audible & visible
    return {
        "empty audio segments": 1 - audio.any(axis=2).mean(),
        "empty visual segments": 1 - visual.any(axis=2).mean(),
        "silent videos": 1 - audible.any(axis=1).mean(),
        "videos with nothing to see": 1 - visible.any(axis=1).mean(),
        "audible cells": audio.sum() / N,
        "visible cells": visual.sum() / N,
        "audio-visual cells": (audio & visual).sum() / N,
        "audible events": audible.sum() / N,
        "visible events": visible.sum() / N,
        "audible runs per event": runs(audio) / audible.sum(),
        "visible runs per event": runs(visual) / visible.sum(),
        "same timeline in both": same.sum() / (audible | visible).sum(),
    }


def runs(timelines: np.ndarray) -> int:
    return timelines[:, 0].sum() + (timelines[:, 1:] & ~timelines[:, :-1]).sum()


def durations(timelines: np.ndarray) -> np.ndarray:
    counts = np.bincount(timelines.sum(axis=1).ravel(), minlength=11)[1:]
    return counts / counts.sum()


def onsets(timelines: np.ndarray) -> np.ndarray:
    counts = np.bincount(timelines.argmax(axis=1)[timelines.any(axis=1)], minlength=10)
    return counts / counts.sum()


def together(weak: np.ndarray) -> np.ndarray:
    """(K, K) share of videos that carry both classes; frequencies stand on the diagonal."""
    return np.einsum("nj,nk->jk", weak.astype(float), weak.astype(float)) / len(weak)


@pytest.fixture(scope="module")
def worlds():
    """Labels of 3,000 videos of each world, labelled as val and test are."""
    settings = PRESETS["smoke"].but(test=3_000)
    return [SimLLP(settings, world).labels("test") for world in WORLDS]


def test_stated_numbers_are_those_of_llp(shared):
    splits = [read_annotations(shared / "llp", split) for split in ("val", "test")]
    audio, visual = (np.concatenate([getattr(s, name) for s in splits]) for name in ("true_audio", "true_visual"))
    for name, value in summary(audio, visual).items():
        assert value == pytest.approx(LLP[name], abs=6e-3 if value > 2 else 6e-4), name
    for modality, timelines in (("audio", audio), ("visual", visual)):
        np.testing.assert_allclose(durations(timelines), DURATIONS[modality], atol=6e-4)
        np.testing.assert_allclose(onsets(timelines), ONSETS[modality], atol=6e-4)


@pytest.mark.parametrize("name", LLP)
def test_timelines_are_filled_like_llps(worlds, name):
    values = [summary(labels.true_audio, labels.true_visual)[name] for labels in worlds]
    assert np.mean(values) == pytest.approx(LLP[name], abs=TOLERANCE[name])
    assert np.ptp(values) < 4 * TOLERANCE[name]


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_durations_and_onsets(worlds, modality):
    timelines = np.concatenate([getattr(labels, f"true_{modality}") for labels in worlds])
    np.testing.assert_allclose(durations(timelines), DURATIONS[modality], atol=0.045)
    np.testing.assert_allclose(onsets(timelines), ONSETS[modality], atol=0.03)


def test_labels_per_video_and_class_frequencies(worlds):
    counts = shipped_counts()
    weak = np.concatenate([labels.weak for labels in worlds])
    assert weak.sum() / len(weak) == pytest.approx(counts.dense_labels.sum() / counts.dense_videos, abs=0.02)
    np.testing.assert_allclose(weak.mean(axis=0), counts.dense_labels / counts.dense_videos, atol=0.03)


def test_train_lacks_the_extra_events_and_keeps_llps_cooccurrence():
    counts = shipped_counts()
    expected = np.zeros((counts.num_classes, counts.num_classes))
    for members, number in counts.train_label_sets:
        expected[np.ix_(members, members)] += number / counts.train_videos
    settings = PRESETS["smoke"].but(train=5_000)
    splits = [SimLLP(settings, world).labels("train") for world in WORLDS]
    weak = np.concatenate([labels.weak for labels in splits])
    np.testing.assert_allclose(together(weak), expected, atol=0.015)
    occurs = np.concatenate([(labels.true_audio | labels.true_visual).any(axis=1) for labels in splits])
    missing = (occurs & ~weak).sum() / len(weak)
    assert missing == pytest.approx(1.811 - 1.606, abs=0.02)
    assert not (weak & ~occurs).any()


def test_extra_events_can_be_labelled_in_train():
    labels = SimLLP(PRESETS["smoke"].but(train=2_000, extra_missing_in_train=False)).labels("train")
    np.testing.assert_array_equal(labels.weak, (labels.true_audio | labels.true_visual).any(axis=1))


def test_modality_shares_of_frequent_classes(worlds):
    counts = shipped_counts().modality.sum(axis=1)
    frequent = counts.sum(axis=1) >= 50
    audible = np.concatenate([labels.true_audio.any(axis=1) for labels in worlds])
    visible = np.concatenate([labels.true_visual.any(axis=1) for labels in worlds])
    found = np.stack([m.sum(axis=0) for m in (audible & ~visible, visible & ~audible, audible & visible)], axis=1)
    expected = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose((found / found.sum(axis=1, keepdims=True))[frequent], expected[frequent], atol=0.06)


def test_drawn_label_sets_hold_a_class_once(worlds):
    for labels in worlds:
        classes = labels.events.classes
        assert (np.diff(classes, axis=1)[labels.events.present[:, 1:]] < 0).all()
        assert labels.events.present.sum(axis=1).min() >= 1


@pytest.mark.parametrize("num_segments", [1, 2, 7, 25])
def test_any_number_of_segments(num_segments):
    events = LabelSampler(shipped_counts(), num_segments).draw(200, np.random.default_rng(0))
    assert events.audio.shape == (200, events.classes.shape[1], num_segments)
    on = events.audio.any(axis=2) | events.visual.any(axis=2)
    np.testing.assert_array_equal(on, events.present)


def test_chains_keep_to_their_rates():
    rates = np.array([0.2, 0.8, 0.1, 0.5])  # not begun, on, ended, first segment
    chains = draw_chains(np.broadcast_to(rates, (20_000, 10, 4)), np.random.default_rng(0))
    before = states_before(chains)
    assert chains[before == 1].mean() == pytest.approx(0.8, abs=0.01)
    assert chains[before == 2].mean() == pytest.approx(0.1, abs=0.01)


def test_chains_that_can_hardly_be_on_still_are_somewhere():
    chains = draw_chains(np.full((500, 6, 4), 1e-9), np.random.default_rng(0))
    np.testing.assert_array_equal(chains.sum(axis=1), 1)
    assert (chains.sum(axis=0) > 40).all()
