"""The search for thresholds against trying every one with the protocol itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.errors import UserError
from mmcse.evaluation import decode, parsing_scores
from mmcse.evaluation.thresholds import CANDIDATES, search_visual_thresholds


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 4), st.integers(0, 2**31))
def test_each_class_is_searched_alone_and_the_largest_of_equals_wins(videos, segments, classes, seed):
    rng = np.random.default_rng(seed)
    visible = rng.random((videos, segments, classes)) < 0.6
    prob, truth = rng.random((videos, classes)), rng.random((videos, segments, classes)) < 0.4
    candidates = (0.2, 0.5, 0.8)
    expected = []
    for k in range(classes):
        best = (-1.0, 0.0)
        for candidate in candidates:
            thresholds = np.full(classes, 0.45)
            thresholds[k] = candidate
            seen = visible & (prob >= thresholds)[:, None]
            best = max(best, (parsing_scores(seen, seen, truth, truth)["event/V"], candidate))
        expected.append(best[1])
    assert search_visual_thresholds(visible, prob, truth, candidates[::-1]).tolist() == expected


def test_a_class_that_is_never_seen_gets_the_largest_threshold():
    nothing = np.zeros((3, 4, 2), dtype=bool)
    assert search_visual_thresholds(nothing, np.ones((3, 2)), nothing).tolist() == [0.7, 0.7]
    assert CANDIDATES == (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def test_gates_have_thresholds_of_their_own_for_modality_and_class():
    segment, prob = torch.full((1, 2, 2, 3), 0.9), torch.full((1, 3), 0.5)
    gates = torch.tensor([[0.4, 0.6, 0.5], [0.6, 0.4, 0.4]])
    heard, seen = decode(segment, prob, prob, prob, gate="audio/visual", gate_threshold=gates)
    assert heard.all(dim=1).tolist() == [[True, False, True]]
    assert seen.all(dim=1).tolist() == [[False, True, True]]
    for decision in decode(segment, prob, prob, prob, gate="audio/visual", gate_threshold=gates[1]):
        assert decision.all(dim=1).tolist() == [[False, True, True]]
    with pytest.raises(UserError, match=r"\(3, 3\)"):
        decode(segment, prob, prob, prob, gate="audio/visual", gate_threshold=torch.zeros(3, 3))
