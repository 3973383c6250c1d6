import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from protocol_oracle import oracle_scores
from random_parsings import parsings

from mmcse.data.annotations import ORIGINAL_AUDIO_FILE, read_annotations
from mmcse.errors import UserError
from mmcse.evaluation import SCORE_KEYS, parsing_scores, per_class_scores, video_level_f1
from mmcse.evaluation.fscores import parsing_counts, per_video_scores


def video(audio, visual):
    """(1, T, K) decisions of both modalities from one picture like '##..' for each class."""
    return [np.array([[c == "#" for c in text] for text in texts]).T[None] for texts in (audio, visual)]


def test_keys_and_types():
    scores = parsing_scores(*np.ones((4, 1, 3, 2), dtype=bool))
    assert list(scores) == [*SCORE_KEYS, "Avg"]
    assert SCORE_KEYS[:5] == ("segment/A", "segment/V", "segment/AV", "segment/Type", "segment/Event")
    assert all(type(value) is float for value in scores.values())
    json.dumps(scores)


def test_a_video_worked_out_by_hand():
    pred = video(["####", "...."], ["##..", "#..."])
    true = video(["##..", "...."], ["####", "...."])
    scores = parsing_scores(*pred, *true)
    a, v, av = 4 / 6, (4 / 6 + 0) / 2, 1.0  # both products are ##.. in class 0
    assert scores["segment/A"] == pytest.approx(100 * a, abs=1e-12)
    assert scores["segment/V"] == pytest.approx(100 * v, abs=1e-12)
    assert scores["segment/AV"] == pytest.approx(100 * av, abs=1e-12)
    assert scores["segment/Type"] == pytest.approx(100 * (a + v + av) / 3, abs=1e-12)
    assert scores["segment/Event"] == pytest.approx(100 * (8 / 12 + 0) / 2, abs=1e-12)
    # An IoU of one half is a hit, so class 0 is perfect at event level.
    assert [scores[f"event/{s}"] for s in ("A", "V", "AV", "Event")] == [100, 50, 100, 50]
    assert scores["Avg"] == pytest.approx(np.mean([scores[key] for key in SCORE_KEYS]), abs=1e-12)


def test_nothing_predicted_where_nothing_is_true_is_right():
    empty = np.zeros((3, 5, 2), dtype=bool)
    assert set(parsing_scores(empty, empty, empty, empty).values()) == {100.0}


@given(parsings())
def test_agrees_with_the_protocol_word_by_word(arrays):
    assert list(parsing_scores(*arrays).values()) == pytest.approx(oracle_scores(*arrays), abs=1e-9)


@given(parsings(), st.randoms(use_true_random=False))
def test_the_order_of_videos_does_not_show_and_that_of_classes_hardly(arrays, random):
    N, _, K = arrays[0].shape
    videos, classes = random.sample(range(N), N), random.sample(range(K), K)
    scores = parsing_scores(*arrays)
    assert parsing_scores(*(array[videos] for array in arrays)) == scores
    assert parsing_scores(*(array[:, :, classes] for array in arrays)) == pytest.approx(scores, abs=1e-12)


@given(parsings())
def test_symmetries(arrays):
    pred_audio, pred_visual, true_audio, true_visual = arrays
    scores = parsing_scores(*arrays)
    exchanged = parsing_scores(pred_visual, pred_audio, true_visual, true_audio)
    for level in ("segment", "event"):
        assert exchanged[f"{level}/A"] == scores[f"{level}/V"]
        assert exchanged[f"{level}/AV"] == scores[f"{level}/AV"]
        assert exchanged[f"{level}/Event"] == scores[f"{level}/Event"]
    backwards = parsing_scores(*(array[:, ::-1] for array in arrays))
    assert backwards == scores
    # F is symmetric in prediction and truth, and a match is one to one: two runs never both fill half of a third.
    assert parsing_scores(true_audio, true_visual, pred_audio, pred_visual) == scores


@given(parsings())
def test_a_mean_over_videos(arrays):
    rows = per_video_scores(parsing_counts(*arrays))
    assert rows.shape == (len(arrays[0]), 10)
    for i, row in enumerate(rows):
        alone = parsing_scores(*(array[i : i + 1] for array in arrays))
        assert [alone[key] for key in SCORE_KEYS] == row.tolist()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float32, torch.bfloat16])
def test_decisions_of_any_type(dtype):
    rng = np.random.default_rng(3)
    arrays = rng.random((4, 6, 5, 3)) < 0.5
    tensors = [torch.from_numpy(array).to(dtype) for array in arrays]
    assert parsing_scores(*tensors) == parsing_scores(*arrays) == parsing_scores(*arrays.astype(float))


def test_wrong_values_and_shapes_are_named():
    good = np.zeros((2, 4, 3), dtype=bool)
    with pytest.raises(UserError, match=r"pred_visual holds 0\.3; expected decisions"):
        parsing_scores(good, good + 0.3, good, good)
    with pytest.raises(UserError, match="true_audio holds nan"):
        parsing_scores(good, good, good * np.nan, good)
    with pytest.raises(UserError, match=r"\(2, 4, 3\).*true_audio has shape \(2, 5, 3\)"):
        parsing_scores(good, good, np.zeros((2, 5, 3)), good)
    with pytest.raises(UserError, match=r"\(4, 3\); expected the axes \(N, T, K\)"):
        parsing_scores(*[good[0]] * 4)
    with pytest.raises(UserError, match="no video"):
        parsing_scores(*[good[:0]] * 4)


def test_per_class_counts_are_pooled_over_videos():
    pred_audio, pred_visual, true_audio, true_visual = np.zeros((4, 2, 4, 3), dtype=bool)
    pred_audio[0, :2, 0] = pred_audio[1, :, 0] = True
    true_audio[0, :, 0] = True
    true_visual[1, 1:3, 1] = True
    table = per_class_scores(pred_audio, pred_visual, true_audio, true_visual)
    assert set(table) == {f"{level}/{stream}" for level in ("segment", "event") for stream in ("A", "V", "AV")}
    segment = table["segment/A"]
    assert [segment[c].tolist() for c in ("TP", "FP", "FN")] == [[2, 0, 0], [4, 0, 0], [2, 0, 0]]
    assert segment["F"][0] == pytest.approx(40)
    assert np.isnan(segment["F"][1:]).all()
    assert [table["event/A"][c].tolist() for c in ("TP", "FP", "FN")] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert table["event/V"]["FN"].tolist() == [0, 1, 0]
    np.testing.assert_array_equal(table["event/V"]["F"], [np.nan, 0, np.nan])
    assert np.isnan(table["event/AV"]["F"]).all()


def test_video_level_f1():
    pred = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]])
    weak = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]])
    scores = video_level_f1(pred, weak)
    assert scores["video/F1"] == pytest.approx(100 * 6 / (6 + 1 + 1))
    assert scores["video/F1_macro"] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)  # class 2 does not exist
    nothing = torch.zeros(2, 3)
    assert video_level_f1(nothing, nothing) == {"video/F1": 100, "video/F1_macro": 100}
    with pytest.raises(UserError, match=r"weak has shape \(3, 5\)"):
        video_level_f1(pred, torch.zeros(3, 5))


@pytest.mark.parametrize("case", ["flip", "spans"])
def test_golden_numbers(shared, case):
    golden = np.load(shared / "golden" / "metrics.npz")
    truth = read_annotations(shared / "llp", "val")
    N, T, K = truth.true_audio.shape
    pred = [
        np.unpackbits(golden[f"val.corrected.{case}.pred_{m}"], count=N * K * T).reshape(N, K, T).swapaxes(1, 2)
        for m in ("audio", "visual")
    ]
    arrays = *pred, truth.true_audio, truth.true_visual
    scores = np.array(list(parsing_scores(*arrays).values()))
    np.testing.assert_allclose(scores, golden[f"val.corrected.{case}.scores"], rtol=0, atol=1e-9)
    rows = per_video_scores(parsing_counts(*arrays))
    np.testing.assert_allclose(rows, golden[f"val.corrected.{case}.per_video"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("nothing", (0.50, 10.08, 14.50, 8.36, 0.00)),
        ("speech", (16.56, 10.08, 14.50, 13.72, 14.41)),
        ("weak", (76.12, 60.35, 52.61, 63.03, 71.73)),
    ],
)
def test_floors_on_the_real_test_set(shared, who, expected):
    truth = read_annotations(shared / "llp", "test")
    nothing = np.zeros_like(truth.true_audio)
    speech = nothing.copy()
    speech[:, :, 0] = True
    weak = np.broadcast_to(truth.weak[:, None], nothing.shape)
    pred = {"nothing": (nothing, nothing), "speech": (speech, nothing), "weak": (weak, weak)}[who]
    scores = parsing_scores(*pred, truth.true_audio, truth.true_visual)
    assert [round(scores[key], 2) for key in SCORE_KEYS[:5]] == list(expected)


def test_the_audio_file_matters(shared):
    corrected = read_annotations(shared / "llp", "test")
    original = read_annotations(shared / "llp", "test", ORIGINAL_AUDIO_FILE)
    weak = np.broadcast_to(corrected.weak[:, None], corrected.true_audio.shape)
    scores = [parsing_scores(weak, weak, t.true_audio, t.true_visual) for t in (corrected, original)]
    assert scores[0]["segment/A"] == pytest.approx(76.1176, abs=1e-4)
    assert scores[1]["segment/A"] == pytest.approx(76.0802, abs=1e-4)
    assert scores[0]["segment/V"] == scores[1]["segment/V"]
