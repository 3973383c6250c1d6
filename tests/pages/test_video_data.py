"""What travels inside a page about every video: exact where it says so, rounded where it says so, and small."""

import base64
import dataclasses
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_outputs import outputs
from mmcse.evaluation import SCORE_KEYS, parsing_scores
from mmcse.pages.videos import NOT_A_NUMBER, decisions, video_data


def unpacked(text, dtype):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def bits(text, shape):
    return np.unpackbits(unpacked(text, np.uint8), bitorder="little")[: np.prod(shape)].reshape(shape).astype(bool)


@settings(max_examples=25, deadline=None)
@given(N=st.integers(1, 5), T=st.integers(2, 7), K=st.integers(3, 9), seed=st.integers(0, 1000))
def test_decisions_survive_and_probabilities_to_the_thousandth(N, T, K, seed):
    output = outputs(N, T, classes=tuple("abcdefghi"[:K]), seed=seed)
    data = video_data({"one": output})
    [run] = data["runs"]
    assert (bits(data["truth"], output.true.shape) == output.true).all()
    assert (bits(data["weak"], output.weak.shape) == output.weak).all()
    assert (bits(run["predicted"], output.true.shape) == output.predicted).all()
    segment = unpacked(run["segment"], "<u2").reshape(output.true.shape) / 1000
    assert np.abs(segment - output.segment_prob).max() <= 0.0005 + 1e-6
    video = unpacked(run["video"], "<u2").reshape(N, 2, K) / 1000
    gating = np.stack((output.video_prob, output.visual_prob), axis=1)  # the gate is "video/visual"
    assert np.abs(video - gating).max() <= 0.0005 + 1e-6


def test_scores_of_the_videos_average_to_those_of_the_split():
    output = outputs(9)
    data = video_data({"one": output})
    scores = unpacked(data["runs"][0]["scores"], "<u2").reshape(9, 11) / 100
    expected = parsing_scores(*decisions(output))
    assert data["score_keys"] == [*SCORE_KEYS, "Avg"]
    assert scores.mean(axis=0) == pytest.approx([expected[key] for key in data["score_keys"]], abs=0.006)


def test_what_is_no_number_or_out_of_range_is_not_passed_off_as_one():
    output = outputs(1)
    odd = output.segment_prob.copy()
    odd[0, :4, 0, 0] = (np.nan, np.inf, -1.0, 1.2)
    video = np.full_like(output.video_prob, 3.5)  # a video-level probability may exceed one
    data = video_data({"one": dataclasses.replace(output, segment_prob=odd, video_prob=video)})
    [run] = data["runs"]
    segment = unpacked(run["segment"], "<u2").reshape(odd.shape)
    assert segment[0, :4, 0, 0].tolist() == [NOT_A_NUMBER, NOT_A_NUMBER - 1, 0, 1200]
    assert (unpacked(run["video"], "<u2").reshape(1, 2, -1)[:, 0] == 3500).all()


def test_without_a_gate_there_is_no_probability_of_the_video():
    assert video_data({"one": outputs(gate="none")})["runs"][0]["video"] is None


def test_runs_on_other_videos_do_not_share_a_page():
    with pytest.raises(ValueError, match="different videos"):
        video_data({"one": outputs(), "other": outputs(seed=1)})


def test_a_split_as_large_as_llps_stays_small():
    data = video_data({"one": outputs(300, 10, classes=tuple(map(str, range(25))))})
    size = len(data["runs"][0]["segment"]) + len(data["runs"][0]["predicted"]) + len(data["truth"])
    # random probabilities compress worse than real ones; LLP's test split has four times as many videos
    assert 4 * size < 3e6
