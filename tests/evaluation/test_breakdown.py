"""Scores by duration: against a loop over single events, and against the counts of the protocol."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.errors import UserError
from mmcse.evaluation import per_class_scores
from mmcse.evaluation.breakdown import DurationBin, breakdown_table, duration_bins, duration_breakdown


def runs(present):
    """Events (video, class, onset, offset), found one segment after the other."""
    found = []
    for n, k in np.ndindex(present.shape[0], present.shape[2]):
        onset = None
        for t, here in enumerate([*present[n, :, k], False]):
            if here and onset is None:
                onset = t
            elif not here and onset is not None:
                found.append((n, k, onset, t))
                onset = None
    return found


def hit(event, others):
    n, k, start, end = event
    for m, j, a, b in others:
        overlap = min(end, b) - max(start, a)
        if (m, j) == (n, k) and overlap > 0 and 2 * overlap >= max(end, b) - min(start, a):
            return True
    return False


def by_hand(pred, true, bins):
    predicted, annotated = runs(pred), runs(true)
    columns = {"true": [], "found": [], "predicted": [], "right": []}
    for low, high in bins:
        mine = [e for e in annotated if low <= e[3] - e[2] <= high]
        ours = [e for e in predicted if low <= e[3] - e[2] <= high]
        columns["true"].append(len(mine))
        columns["found"].append(sum(hit(e, predicted) for e in mine))
        columns["predicted"].append(len(ours))
        columns["right"].append(sum(hit(e, annotated) for e in ours))
    return columns


@given(seed=st.integers(0, 10_000), segments=st.integers(1, 12), density=st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_every_count_is_that_of_a_loop_over_events(seed, segments, density):
    rng = np.random.default_rng(seed)
    decisions = rng.random((4, 3, segments, 2)) < density
    bins = duration_bins(segments)
    table = duration_breakdown(*decisions)
    for stream, pred, true in (
        ("A", decisions[0], decisions[2]),
        ("V", decisions[1], decisions[3]),
        ("AV", decisions[0] & decisions[1], decisions[2] & decisions[3]),
    ):
        expected = by_hand(pred, true, bins)
        assert {name: table[stream][name].tolist() for name in expected} == expected
        protocol = per_class_scores(*decisions)[f"event/{stream}"]
        assert table[stream]["right"].sum() == protocol["TP"].sum()
        assert (table[stream]["true"] - table[stream]["found"]).sum() == protocol["FN"].sum()
        assert (table[stream]["predicted"] - table[stream]["right"]).sum() == protocol["FP"].sum()


@given(segments=st.integers(1, 40))
def test_bins_hold_every_duration_once(segments):
    durations = [d for low, high in duration_bins(segments) for d in range(low, high + 1)]
    assert durations == list(range(1, segments + 1))


def test_bins_of_ten_seconds():
    assert [str(b) for b in duration_bins(10)] == ["1-2", "3-5", "6-9", "10"]


def test_percentages_of_a_small_example():
    true = np.zeros((2, 10, 1), dtype=bool)
    true[0, 0:2] = True  # found by a prediction of three segments
    true[0, 5:7] = True  # missed
    true[1, :] = True  # found exactly
    pred = np.zeros_like(true)
    pred[0, 0:3] = True
    pred[1, :] = True
    nowhere = np.zeros_like(true)
    audio = duration_breakdown(pred, nowhere, true, nowhere)["A"]
    np.testing.assert_array_equal(audio["recall"], [50, np.nan, np.nan, 100])
    np.testing.assert_array_equal(audio["precision"], [np.nan, 100, np.nan, 100])
    np.testing.assert_array_equal(audio["F"], [0, 100, np.nan, 100])
    text = breakdown_table({"A": audio}, duration_bins(10))
    assert "50.0 (2)" in text
    assert "100.0 (1)" in text


def test_bins_can_be_chosen():
    everything = np.ones((1, 4, 2), dtype=bool)
    table = duration_breakdown(everything, everything, everything, everything, [DurationBin(1, 3), DurationBin(4, 4)])
    assert table["AV"]["true"].tolist() == [0, 2]


def test_shapes_must_agree():
    x = np.zeros((2, 4, 3), dtype=bool)
    with pytest.raises(UserError, match=r"expected the same \(N, T, K\)"):
        duration_breakdown(x, x, x, x[:1])
