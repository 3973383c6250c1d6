"""Means, intervals and tests against scipy's own and against values from tables."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmcse.runs.statistics import Summary, holm, summarise, t_test

points = st.floats(0, 100)
values = st.lists(points, min_size=2, max_size=9)


@given(values)
def test_summary_is_scipy_s(given_values):
    ours = summarise(given_values)
    assert ours.mean == pytest.approx(np.mean(given_values))
    assert ours.std == pytest.approx(np.std(given_values, ddof=1))
    if ours.std and ours.std > 1e-6:
        low, high = stats.t.interval(0.95, ours.n - 1, loc=ours.mean, scale=stats.sem(given_values))
        assert (ours.low, ours.high) == (pytest.approx(low), pytest.approx(high))


@given(values, points)
def test_p_is_scipy_s(given_values, expected):
    if np.std(given_values) > 1e-6:
        p = stats.ttest_1samp(given_values, expected).pvalue
        assert t_test(given_values, expected) == pytest.approx(p, abs=1e-12)


def test_quantile_of_the_textbook():
    summary = summarise([-1.0, 0.0, 1.0])
    assert summary.high == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


def test_one_value_has_no_spread():
    assert summarise([3.0]) == Summary(3.0, 1)
    assert t_test([3.0], 2.0) is None
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_values_without_spread():
    assert t_test([2.0, 2.0], 2.0) == 1.0
    assert t_test([2.0, 2.0], 2.1) == 0.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, None, 0.6]) == [1.0, None, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert q is not None
        assert p <= q <= min(1, len(p_values) * p)
    by_p = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)
