"""What stands in a figure: its texts, its artists and how many, for few classes and for many."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from sklearn.calibration import calibration_curve

from made_up_outputs import CLASSES, history, outputs
from mmcse.errors import UserError
from mmcse.evaluation import per_class_scores
from mmcse.figures import (
    ablation_bars,
    class_scores,
    confusion_maps,
    cooccurrence_maps,
    embedding,
    example_videos,
    reliability_diagram,
    run_figures,
    save_figure,
    threshold_map,
    timeline,
    training_curves,
    video_timeline,
)
from mmcse.figures.calibration import THRESHOLDS, reliability, scores_by_threshold
from mmcse.figures.features import BACKGROUND, NONE, SEVERAL, classwise_points, segment_labels, tsne
from mmcse.figures.maps import confusion

MADE = outputs()
SHOWN = {"kind": "simulated", "title": "A figure"}
NOTES = {"simulated": "SIMULATED", "fixture": "FIXTURE"}


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def widths(axis):
    """Length of every bar of a track, in seconds, by the label of its row."""
    rows = dict(zip(axis.get_yticks(), (label.get_text() for label in axis.get_yticklabels()), strict=True))
    found = {}
    for bars in axis.collections:
        for path in bars.get_paths():
            low, high = path.get_extents().get_points()
            found.setdefault(rows[(low[1] + high[1]) / 2], []).append((low[0], high[0], bars.get_hatch()))
    return found


@pytest.mark.parametrize("kind", ["real", "simulated", "fixture"])
def test_every_figure_says_what_its_data_are(kind, monkeypatch):
    monkeypatch.setattr("mmcse.figures.features.tsne", lambda features, seed: features[:, :2])
    made = outputs(kind=kind)
    seen = dict(run_figures(made, history(), best_epoch=3, videos=made.ids[:2]))
    assert set(seen) == {
        "curves", "classes", "confusion", "reliability", "thresholds", "cooccurrence", "video-video000000",
        "video-video000001", "features-audio", "features-visual",
    }  # fmt: skip
    seen["ablation"] = ablation_bars({"full": [60.0, 61.0]}, kind=kind, title="Table")
    for name, figure in seen.items():
        notes = [text for text in texts(figure) if text.startswith(tuple(NOTES.values()))]
        assert len(notes) == (kind != "real"), name
        assert all(note.startswith(NOTES[kind]) for note in notes)


@pytest.mark.parametrize("K", [1, 3, pytest.param(60, marks=pytest.mark.slow)])
def test_few_and_many_classes_are_all_named(K, tmp_path):
    classes = tuple(f"Event_{k}_$x^2" for k in range(K))
    made = outputs(classes=classes, num_segments=7)
    named = {"cooccurrence": 2 * 4, "confusion": 2 * 2, "thresholds": 1}  # how often
    figures = {
        "cooccurrence": cooccurrence_maps(made.cooccurrence, classes, **SHOWN),
        "confusion": confusion_maps(made.predicted, made.true, classes, **SHOWN),
        "thresholds": threshold_map(made.segment_prob, made.true, classes, **SHOWN),
    }
    for name, figure in figures.items():
        shown = texts(figure)
        for label in classes:
            assert shown.count(label.replace("_", " ")) == named[name], name
        save_figure(figure, tmp_path / f"{name}.png")


def test_timeline_marks_every_segment_once():
    true = np.zeros((10, 2, 4), dtype=bool)
    true[2:6, 0, 1] = True
    predicted = np.zeros_like(true)
    predicted[4:8, 0, 1] = True
    predicted[0, 0, 1] = True
    figure = timeline({"ours": predicted}, true, CLASSES, segment_seconds=0.5, **SHOWN)
    audio, visual = figure.axes
    bars = widths(audio)
    assert bars["truth"] == [(1.0, 3.0, "")] or bars["truth"] == [(1.0, 3.0, None)]
    assert sorted((low, high) for low, high, _ in bars["ours"]) == [(0, 0.5), (1, 2), (2, 3), (3, 4)]
    assert sorted((low, high) for low, high, hatch in bars["ours"] if hatch) == [(0, 0.5), (3, 4)]  # the false ones
    assert "no event" in [text.get_text() for text in visual.texts]
    assert texts(figure).count("Frying (food)") == 1
    assert audio.get_xlim() == (0, 5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_bars_of_a_row_cover_what_is_true_or_predicted(seed):
    made = outputs(num_videos=1, seed=seed)
    figure = timeline({"ours": made.predicted[0]}, made.true[0], CLASSES, **SHOWN)
    for m, axis in enumerate(figure.axes):
        bars = widths(axis)
        length = {name: sum(high - low for low, high, _ in of_row) for name, of_row in bars.items()}
        assert length.get("truth", 0) == made.true[0, :, m].sum()
        assert length.get("ours", 0) == (made.true[0, :, m] | made.predicted[0, :, m]).sum()


def test_timeline_without_truth_has_a_row_for_each_event():
    figure = timeline({"ours": MADE.predicted[0]}, None, CLASSES, kind="real", title="x")
    for m, axis in enumerate(figure.axes):
        assert len(axis.get_yticks()) == MADE.predicted[0, :, m].any(axis=0).sum()
    assert "predicted" in texts(figure)
    assert "truth" not in texts(figure)


def test_timeline_of_other_shapes_is_refused():
    with pytest.raises(UserError, match=r"Expected decisions of shape \(T, 2, 4\)"):
        timeline({"ours": MADE.predicted[0, :, :, :3]}, MADE.true[0], CLASSES, **SHOWN)
    with pytest.raises(UserError, match=r"found \{\}"):
        timeline({}, None, CLASSES, **SHOWN)


def test_baseline_stands_beside_and_must_have_the_video():
    other = outputs(seed=1, method="Other, seed 1")
    assert {"Network, seed 0", "Other, seed 1"} <= set(texts(video_timeline(MADE, 0, other)))
    assert "Network, seed 0 (baseline)" in texts(video_timeline(MADE, 0, outputs(seed=2)))
    with pytest.raises(UserError, match=r"has no video 'video000005'.*It has 2"):
        video_timeline(MADE, 5, outputs(num_videos=2))
    with pytest.raises(UserError, match="other classes"):
        video_timeline(MADE, 0, outputs(classes=("a", "b", "c", "d")))


def test_examples_are_the_worst_and_the_best_and_between():
    made = outputs(num_videos=9)
    made.true[:, 0, 0, :2] = True  # at least two classes in every video
    made.predicted[:] = made.true
    made.predicted[4] = False
    made.predicted[7, :5] = False
    assert example_videos(made)[0] == 4
    assert len(set(example_videos(made))) == 3
    assert example_videos(outputs(num_videos=1)) == [0]


def test_unknown_videos_are_refused_before_anything_is_drawn():
    with pytest.raises(UserError, match="Did you mean 'video000001'"):
        next(run_figures(MADE, videos=["video00001"]))


def test_maps_that_exist_are_drawn_on_one_scale():
    figure = cooccurrence_maps({name: MADE.cooccurrence[name] for name in ("av", "aa")}, CLASSES, **SHOWN)
    images = [image for axis in figure.axes for image in axis.images]
    assert len(images) == 2
    assert images[0].get_clim() == images[1].get_clim()
    np.testing.assert_array_equal(images[0].get_array(), MADE.cooccurrence["aa"])
    with pytest.raises(UserError, match="Expected maps named"):
        cooccurrence_maps({"xx": np.eye(4)}, CLASSES, **SHOWN)
    with pytest.raises(UserError, match=r"shape \(4, 4\)"):
        cooccurrence_maps({"aa": np.eye(3)}, CLASSES, **SHOWN)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_confusion_is_that_of_a_loop(seed):
    made = outputs(num_videos=2, num_segments=4, seed=seed)
    shares = confusion(made.predicted, made.true)
    for m, i, j in np.ndindex(shares.shape):
        present, decided = made.true[:, :, m].reshape(-1, 4), made.predicted[:, :, m].reshape(-1, 4)
        rows = [n for n in range(len(present)) if present[n, i]]
        wrong = [n for n in rows if (not decided[n, i] if i == j else decided[n, j] and not present[n, j])]
        expected = len(wrong) / len(rows) if rows else np.nan
        np.testing.assert_allclose(shares[m, i, j], expected)


@given(seed=st.integers(0, 1000), bins=st.integers(2, 12))
@settings(max_examples=15, deadline=None)
def test_reliability_is_scikit_learn_s(seed, bins):
    rng = np.random.default_rng(seed)
    probability = rng.random(200)
    outcome = rng.random(200) < probability**2
    found = reliability(probability, outcome, bins)
    frequency, confidence = calibration_curve(outcome, probability, n_bins=bins, strategy="uniform")
    filled = found.count > 0
    np.testing.assert_allclose(found.frequency[filled], frequency)
    np.testing.assert_allclose(found.confidence[filled], confidence)
    assert found.count.sum() == 200


def test_calibration_error_by_hand():
    found = reliability(np.array([0.1, 0.1, 0.9, 1.0]), np.array([0, 1, 1, 1]), bins=2)
    assert found.calibration_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.05)


def test_scores_above_one_count_as_certain():
    above, certain = (reliability(np.array([0.2, score, score]), np.array([0, 1, 0])) for score in (1.23, 1.0))
    np.testing.assert_array_equal(above.confidence, certain.confidence)
    assert above.calibration_error == certain.calibration_error
    assert above.confidence[-1] == 1


def test_scores_at_the_threshold_in_use_are_those_of_the_decisions():
    scores = scores_by_threshold(MADE.segment_prob, MADE.true, np.array([0.5, 0.9]), MADE.passed)
    by_class = per_class_scores(*np.moveaxis(MADE.predicted, 2, 0), *np.moveaxis(MADE.true, 2, 0))
    np.testing.assert_allclose(scores[0, 0], by_class["segment/A"]["F"])
    np.testing.assert_allclose(scores[0, 1], by_class["segment/V"]["F"])
    ungated = scores_by_threshold(MADE.segment_prob, MADE.true, np.array([0.0]))
    share = MADE.true.mean(axis=(0, 1))
    np.testing.assert_allclose(ungated[0], 100 * 2 * share / (1 + share))


def test_best_thresholds_are_marked_at_the_highest_score():
    figure = threshold_map(MADE.segment_prob, MADE.true, CLASSES, **SHOWN)
    scores = scores_by_threshold(MADE.segment_prob, MADE.true, THRESHOLDS)
    for m, axis in enumerate(figure.axes[:2]):
        best = axis.lines[0]
        for threshold, k in zip(*best.get_data(), strict=True):
            assert scores[np.argmin(abs(THRESHOLDS - threshold)), m, int(k)] == scores[:, m, int(k)].max()


def test_shapes_that_differ_are_refused():
    for draw in (reliability_diagram, lambda p, t, **more: threshold_map(p, t, CLASSES, **more)):
        with pytest.raises(UserError, match="expected the same"):
            draw(MADE.segment_prob[:1], MADE.true, **SHOWN)
    with pytest.raises(UserError, match="expected the same"):
        confusion_maps(MADE.predicted[:1], MADE.true, CLASSES, **SHOWN)


def test_segments_are_labelled_by_their_one_event():
    true = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1]], dtype=bool)
    assert segment_labels(true).tolist() == [NONE, 1, SEVERAL]
    features = np.arange(18.0).reshape(3, 3, 2)
    points, labels = classwise_points(features, true, np.full((3, 2), -1.0))
    assert labels.tolist() == [1, 0, 2, *[BACKGROUND] * 3]
    np.testing.assert_array_equal(points[:3], features[[1, 2, 2], [1, 0, 2]])


def test_tsne_keeps_neighbours_and_repeats_itself():
    rng = np.random.default_rng(0)
    clusters = np.concatenate([rng.standard_normal((15, 8)) + shift for shift in (0, 30)])
    positions = tsne(clusters)
    np.testing.assert_array_equal(positions, tsne(clusters))
    inside = np.linalg.norm(positions[:15] - positions[:15].mean(axis=0), axis=1).max()
    assert np.linalg.norm(positions[:15].mean(axis=0) - positions[15:].mean(axis=0)) > inside
    with pytest.raises(UserError, match="at least four points; there are 3"):
        tsne(clusters[:3])


def test_embedding_shows_every_point_and_needs_no_background():
    f = MADE.features
    figure = embedding(f.holistic[:, 1], f.true[:, 1], f.event_features[:, 1], None, CLASSES, **SHOWN)
    left, right = (sum(len(points.get_offsets()) for points in axis.collections) for axis in figure.axes)
    assert left == len(f.true)
    assert right == f.true[:, 1].sum()
    assert "background" not in texts(figure)
    with pytest.raises(UserError, match="Expected features and truth"):
        embedding(f.holistic[:2, 1], f.true[:, 1], f.event_features[:, 1], None, CLASSES, **SHOWN)


def test_bars_are_means_and_points_single_runs():
    figure = ablation_bars({"full": [60.0, 62.0], "one": [50.0], "none": []}, **SHOWN)
    [axis] = figure.axes
    assert [bar.get_width() for bar in axis.patches] == [61, 50]
    points = [line.get_xdata().tolist() for line in axis.lines if line.get_label() == "single run or world"]
    assert points == [[60, 62], [50]]
    assert len(axis.containers) == 3  # a bar each, and one interval: a single value has none
    assert axis.get_xlim() == (0, 100)  # bars that do not start at zero lie


def test_paper_s_numbers_stand_beside_real_data_only():
    figure = ablation_bars({"full": [60.0]}, kind="real", title="x", paper={"full": 65.4})
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines if line.get_label() == "paper"] == [[65.4]]
    with pytest.raises(UserError, match="do not stand beside simulated data"):
        ablation_bars({"full": [60.0]}, paper={"full": 65.4}, **SHOWN)
    with pytest.raises(UserError, match="no row to draw"):
        ablation_bars({}, **SHOWN)


def test_classes_are_in_the_order_of_their_scores():
    scores = {"A": np.array([10.0, 90.0, np.nan, 50.0])}
    figure = class_scores(scores, CLASSES, **SHOWN)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["Frying (food)", "Cello", "Speech", "Dog"]
    assert "neither present nor predicted" in texts(figure)
    with pytest.raises(UserError, match=r"Expected scores of shape \(4,\)"):
        class_scores({"A": np.zeros(3)}, CLASSES, **SHOWN)


def test_curves_have_every_loss_term_and_bear_any_sign():
    rows = history() | {"train/cooccurrence": np.zeros(12), "train/total": -np.ones(12)}
    left, right = training_curves(rows, **SHOWN).axes
    assert {line.get_label() for line in left.lines} == {"total", "video", "orthogonality", "cooccurrence"}
    assert {line.get_label() for line in right.lines} == {"segment/Type", "Avg"}
    assert left.get_yscale() == "symlog"
    marked = training_curves(history(), best_epoch=4, **SHOWN)
    assert texts(marked).count("kept: 4") == 2
    with pytest.raises(UserError, match="needs the columns epoch"):
        training_curves({}, **SHOWN)


def test_the_user_s_own_settings_change_nothing(tmp_path):
    def written(name):
        save_figure(training_curves(history(), **SHOWN), tmp_path / name)
        return (tmp_path / name).read_bytes()

    plain = written("a.svg")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "xtick.labelsize": 30}):
        assert written("b.svg") == plain


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_the_same_figure_is_the_same_file(ending, tmp_path):
    for name in "ab":
        save_figure(training_curves(history(), **SHOWN), tmp_path / f"{name}.{ending}")
    assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"written as svg, png, pdf\. Did you mean 'svg'"):
        save_figure(training_curves(history(), **SHOWN), tmp_path / "a.svgz")
    assert not any(tmp_path.iterdir())
