"""Simulated splits: what settings do and do not change, pseudo labels, features."""

import subprocess
import sys
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from mmcse.data.simllp import PRESETS, SimLLPSettings, simulate
from mmcse.data.simllp.features import World, unit
from mmcse.data.simllp.simulate import SimLLP, SimulatedSplit
from mmcse.errors import UserError
from mmcse.evaluation import parsing_scores
from mmcse.vocabulary import LLP_CLASSES

TINY = PRESETS["smoke"].but(train=40, val=20, test=30, audio_dim=24, visual_dim=16, motion_dim=12)
LABELS = ("ids", "weak", "true_audio", "true_visual")
PSEUDO = ("pseudo_audio", "pseudo_visual")
FEATURES = ("audio", "visual", "motion")

VALOR = {"segment/A": 80.5, "segment/V": 61.7, "segment/AV": 55.7, "segment/Type": 66.0, "segment/Event": 74.6}
"""Scores of VALOR's pseudo labels on LLP test."""
TOLERANCE = {"segment/A": 1.0, "segment/V": 1.5, "segment/AV": 1.5, "segment/Type": 1.0, "segment/Event": 2.0}


def assert_same(a: SimulatedSplit, b: SimulatedSplit, names=(*LABELS, *PSEUDO, *FEATURES)) -> None:
    for name in names:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def differ(a: SimulatedSplit, b: SimulatedSplit, name: str) -> bool:
    return not np.array_equal(getattr(a, name), getattr(b, name))


def pseudo_scores(settings: SimLLPSettings, world: int) -> dict[str, float]:
    labels = SimLLP(settings, world).labels("test")
    return parsing_scores(labels.pseudo_audio, labels.pseudo_visual, labels.true_audio, labels.true_visual)


@pytest.fixture(scope="module")
def tiny() -> dict[str, SimulatedSplit]:
    return simulate(TINY, world=3)


def test_shapes_and_dtypes(tiny):
    assert list(tiny) == ["train", "val", "test"]
    for (_, data), N in zip(tiny.items(), (40, 20, 30), strict=True):
        T, K = TINY.num_segments, len(LLP_CLASSES)
        assert data.weak.shape == (N, K)
        assert all(getattr(data, name).shape == (N, T, K) for name in (*LABELS[2:], *PSEUDO))
        assert all(getattr(data, name).dtype == bool for name in (*LABELS[1:], *PSEUDO))
        widths = (TINY.audio_dim, TINY.visual_dim, TINY.motion_dim)
        for name, width in zip(FEATURES, widths, strict=True):
            features = getattr(data, name)
            assert features.shape == (N, T, width)
            assert features.dtype == np.float32
            assert np.isfinite(features).all()


def test_ids_are_as_long_as_youtubes_and_unique_over_worlds(tiny):
    other = simulate(TINY, world=4)
    ids = [i for world in (tiny, other) for data in world.values() for i in data.ids.tolist()]
    assert len(set(ids)) == len(ids) == 180
    assert all(len(i) == 11 and i.startswith("sim") for i in ids)


def test_the_same_in_a_fresh_process(tiny, tmp_path):
    script = (
        "import sys, numpy as np\n"
        "from mmcse.data.simllp import PRESETS, simulate\n"
        "settings = PRESETS['smoke'].but(train=40, val=20, test=30, audio_dim=24, visual_dim=16, motion_dim=12)\n"
        "data = simulate(settings, world=3)['train']\n"
        "np.savez(sys.argv[1], **{k: v for k, v in vars(data).items() if isinstance(v, np.ndarray)})\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "again.npz")], check=True)
    with np.load(tmp_path / "again.npz", allow_pickle=False) as again:
        for name in (*LABELS, *PSEUDO, *FEATURES):
            np.testing.assert_array_equal(again[name], getattr(tiny["train"], name), err_msg=name)


def test_worlds_differ(tiny):
    other = simulate(TINY, world=4)
    assert all(differ(tiny["train"], other["train"], name) for name in (*LABELS, *PSEUDO, *FEATURES))


def test_splits_of_a_world_differ():
    data = simulate(TINY.but(train=30, val=30, test=30))
    assert all(differ(data["val"], data["test"], name) for name in (*LABELS, *PSEUDO, *FEATURES))


def test_more_training_videos_leave_val_and_test_alone(tiny):
    other = simulate(TINY.but(train=70), world=3)
    assert_same(tiny["val"], other["val"])
    assert_same(tiny["test"], other["test"])


@pytest.mark.parametrize("dials", [{"pseudo_noise": 0.3}, {"systematic": 0.9}])
def test_dials_of_pseudo_labels_change_nothing_else(tiny, dials):
    other = simulate(TINY.but(**dials), world=3)
    assert_same(tiny["train"], other["train"], (*LABELS, *FEATURES))
    assert all(differ(tiny["train"], other["train"], name) for name in PSEUDO)


@pytest.mark.parametrize(
    "knob",
    [
        {"rho": 0.9},
        {"variants": 1.0},
        {"instance": 2.0},
        {"beta": 3.0},
        {"noise": 1.0},
        {"nonlinearity": 0.0},
        {"mixture": "sum"},
        {"mixture": "max"},
        {"latent_dim": 8},
    ],
    ids=str,
)
def test_knobs_of_features_change_no_label(tiny, knob):
    other = simulate(TINY.but(**knob), world=3)
    assert_same(tiny["train"], other["train"], (*LABELS, *PSEUDO))
    assert all(differ(tiny["train"], other["train"], name) for name in FEATURES)


def test_extra_events_change_only_what_train_is_labelled_with(tiny):
    other = simulate(TINY.but(extra_missing_in_train=False), world=3)
    assert_same(tiny["val"], other["val"])
    assert_same(tiny["train"], other["train"], ("true_audio", "true_visual", *FEATURES))
    assert (other["train"].weak >= tiny["train"].weak).all()
    assert differ(tiny["train"], other["train"], "weak")


def test_width_of_one_stream_leaves_the_others_alone(tiny):
    other = simulate(TINY.but(audio_dim=30), world=3)
    assert_same(tiny["train"], other["train"], (*LABELS, *PSEUDO, "visual", "motion"))


def test_pseudo_labels_score_like_valors():
    settings = PRESETS["smoke"].but(test=1_200)
    scores = [pseudo_scores(settings, world) for world in range(5)]
    for key, target in VALOR.items():
        assert np.mean([s[key] for s in scores]) == pytest.approx(target, abs=TOLERANCE[key]), key


def test_pseudo_labels_keep_to_the_weak_label(tiny):
    for data in tiny.values():
        assert not (data.pseudo_audio & ~data.weak[:, None]).any()
        assert not (data.pseudo_visual & ~data.weak[:, None]).any()


def test_noise_dial_ends_at_the_truth_and_is_monotonic():
    settings = PRESETS["smoke"].but(train=300, test=600)
    clean = SimLLP(settings.but(pseudo_noise=0), 1).labels("train")
    np.testing.assert_array_equal(clean.pseudo_audio, clean.true_audio & clean.weak[:, None])
    np.testing.assert_array_equal(clean.pseudo_visual, clean.true_visual & clean.weak[:, None])
    scores = [pseudo_scores(settings.but(pseudo_noise=n), 1)["segment/Type"] for n in (0, 0.3, 0.6, 1)]
    assert scores[0] == 100
    assert all(a > b + 2 for a, b in pairwise(scores))


def test_systematic_errors_are_a_function_of_scene_and_class():
    labels = SimLLP(PRESETS["smoke"].but(test=3_000, systematic=1), 2).labels("test")
    K = labels.weak.shape[1]
    cell = labels.scenes[:, None] * K + np.arange(K)
    cell = np.broadcast_to(cell[:, None], labels.true_audio.shape)
    for pseudo, truth in (
        (labels.pseudo_audio, labels.true_audio),
        (labels.pseudo_visual, labels.true_visual),
    ):
        allowed = np.broadcast_to(labels.weak[:, None], truth.shape)
        outcome = 2 * cell + truth
        marked = np.bincount(outcome[allowed], pseudo[allowed])
        share = marked / np.maximum(np.bincount(outcome[allowed]), 1)
        assert set(np.unique(share)) <= {0.0, 1.0}
        assert (pseudo != truth)[allowed].mean() > 0.05


def test_systematic_share_keeps_the_number_of_errors():
    settings = PRESETS["smoke"].but(test=1_500)
    random = [pseudo_scores(settings, world)["segment/Type"] for world in range(5)]
    systematic = [pseudo_scores(settings.but(systematic=0.5), world)["segment/Type"] for world in range(5)]
    assert np.mean(systematic) == pytest.approx(np.mean(random), abs=5)


def test_features_look_like_those_of_the_encoders():
    data = simulate(PRESETS["smoke"])["train"]
    np.testing.assert_allclose(np.linalg.norm(data.visual, axis=-1), 1, rtol=1e-5)
    assert data.motion.min() == 0
    assert 0.2 < (data.motion == 0).mean() < 0.8
    assert 0.3 < data.audio.std() < 1.5


def test_features_tell_events_apart():
    """A segment with one event is nearest to the mean feature of its class far more often than chance."""
    data = simulate(TINY.but(train=1_500, val=1, test=600, audio_dim=128))
    hits = []
    for truth, name in (("true_audio", "audio"), ("true_visual", "visual")):
        single = {split: getattr(data[split], truth).sum(axis=2) == 1 for split in ("train", "test")}
        x, y = (
            (getattr(data[s], name)[single[s]], getattr(data[s], truth)[single[s]].argmax(axis=1))
            for s in ("train", "test")
        )
        classes = np.unique(x[1])
        means = unit(np.stack([x[0][x[1] == c].mean(axis=0) for c in classes]) - x[0].mean(axis=0))
        hits.append((classes[((y[0] - x[0].mean(axis=0)) @ means.T).argmax(axis=1)] == y[1]).mean())
    assert min(hits) > 0.4


def test_prototypes_of_a_group_are_alike():
    world = World(TINY.but(rho=0.5, latent_dim=512), 0)
    similar = world.prototypes @ world.prototypes.transpose(0, 2, 1)  # (M, K, K)
    assert similar[:, 9, 13] == pytest.approx(0.5, abs=0.15)
    assert similar[:, 9, 3] == pytest.approx(0, abs=0.15)


def test_presets_are_the_documented_sizes():
    sizes = {name: (p.train, p.val, p.test) for name, p in PRESETS.items()}
    assert sizes == {"smoke": (128, 32, 64), "small": (800, 150, 300), "full": (10_000, 649, 1_200)}
    assert PRESETS["full"].noise > PRESETS["small"].noise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": 1.5}, "rho is 1.5, expected between 0 and 1"),
        ({"train": 0}, "train is 0, expected between 1"),
        ({"noise": -1}, "noise is -1, expected at least 0"),
        ({"mixture": "median"}, "expected one of mean, sum, max"),
        ({"psuedo_noise": 0}, "Did you mean 'pseudo_noise'"),
        ({"beta": float("nan")}, "beta is nan"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        TINY.but(**changes)


@pytest.mark.parametrize("world", [-1, 100_000])
def test_wrong_world(world):
    with pytest.raises(UserError, match="expected a whole number from 0"):
        simulate(TINY, world)


def test_every_setting_has_a_docstring_in_the_source():
    """The settings are the user's reference; a field without a sentence would be one that nobody understands."""
    import inspect

    lines = [line.strip() for line in inspect.getsource(SimLLPSettings).splitlines()]
    for field in fields(SimLLPSettings):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{field.name}:"))
        assert lines[at + 1].startswith('"""'), field.name
