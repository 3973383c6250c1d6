import numpy as np
import pytest
from hypothesis import given
from protocol_oracle import iou, runs
from random_parsings import parsings

from mmcse.evaluation import find_events, match_events


def row(text):
    """(1, T, 1) decisions from a picture like '.##.#'."""
    return np.array([c == "#" for c in text])[None, :, None]


def test_runs_of_one_row():
    events = find_events(row("##..#.###"))
    assert events.onset.tolist() == [0, 4, 6]
    assert events.offset.tolist() == [2, 5, 9]
    assert events.duration.tolist() == [2, 1, 3]


def test_runs_do_not_leak_into_the_next_class_or_video():
    present = np.ones((2, 3, 2), dtype=bool)
    events = find_events(present)
    assert events.video.tolist() == [0, 0, 1, 1]
    assert events.label.tolist() == [0, 1, 0, 1]
    assert set(events.duration.tolist()) == {3}


@given(parsings())
def test_runs_are_those_of_the_oracle_in_order(arrays):
    present = arrays[0]
    events = find_events(present)
    expected = [
        (n, k, min(run), max(run) + 1)
        for n in range(present.shape[0])
        for k in range(present.shape[2])
        for run in runs(present[n, :, k])
    ]
    assert list(zip(events.video, events.label, events.onset, events.offset, strict=True)) == expected
    assert (np.diff(events.start) > 0).all()


@pytest.mark.parametrize(
    ("pred", "true", "hit"),
    [
        ("##........", "####......", True),  # 2/4: exactly one half
        ("##........", "#####.....", False),  # 2/5
        ("####......", "..####....", False),  # 2/6
        (".####.....", "..####....", True),  # 3/5
        ("..####....", "##########", False),  # 4/10
        ("..#####...", "##########", True),  # 5/10, exactly one half again
        ("#.........", ".#........", False),  # next to each other is not overlap
        ("..........", "#.........", None),
    ],
)
def test_iou_edge(pred, true, hit):
    for first, second in ((pred, true), (true, pred)):
        matches = match_events(row(first), row(second))
        if hit is None:
            assert not matches.pred_hit.any()
            assert not matches.true_hit.any()
        else:
            assert matches.pred_hit.tolist() == matches.true_hit.tolist() == [hit]


def test_one_prediction_over_several_events_hits_the_one_that_fills_half_of_it():
    matches = match_events(row("########"), row("####.#.#"))
    assert matches.pred_hit.tolist() == [True]
    assert matches.true_hit.tolist() == [True, False, False]
    matches = match_events(row("########"), row("##.##.##"))
    assert not matches.pred_hit.any()
    assert not matches.true_hit.any()


def test_several_predictions_in_one_event():
    matches = match_events(row("####.#.#"), row("########"))
    assert matches.pred_hit.tolist() == [True, False, False]
    assert matches.true_hit.tolist() == [True]


def test_only_events_of_the_same_video_and_class_match():
    pred, true = np.zeros((2, 4, 2), dtype=bool), np.zeros((2, 4, 2), dtype=bool)
    pred[0, :, 0] = True
    true[0, :, 1] = true[1, :, 0] = True
    matches = match_events(pred, true)
    assert not matches.pred_hit.any()
    assert not matches.true_hit.any()


@given(parsings())
def test_hits_are_those_of_comparing_every_pair(arrays):
    pred, _, true, _ = arrays
    matches = match_events(pred, true)
    expected_pred, expected_true = [], []
    for n in range(pred.shape[0]):
        for k in range(pred.shape[2]):
            predicted, actual = runs(pred[n, :, k]), runs(true[n, :, k])
            expected_pred += [any(iou(p, t) >= 0.5 for t in actual) for p in predicted]
            expected_true += [any(iou(p, t) >= 0.5 for p in predicted) for t in actual]
    assert matches.pred_hit.tolist() == expected_pred
    assert matches.true_hit.tolist() == expected_true


def test_no_videos_and_no_events():
    for shape in ((0, 10, 3), (2, 10, 3)):
        matches = match_events(np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool))
        assert len(matches.pred) == len(matches.true) == 0
        assert matches.pred.count(matches.pred_hit).shape == (shape[0], shape[2])
