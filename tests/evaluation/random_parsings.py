"""Random sets of decisions that look like videos: events with a length, not noise."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def parsings(draw, max_videos=5, max_segments=13, max_classes=4):
    """Four boolean arrays (N, T, K): predicted audio and visual, true audio and visual."""
    N = draw(st.integers(1, max_videos))
    T = draw(st.integers(1, max_segments))
    K = draw(st.integers(1, max_classes))
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    flip = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = rng.random((2, N, T, K)) < density
    pred = truth ^ (rng.random(truth.shape) < flip)
    return (*pred, *truth)
