import re

import numpy as np
import pytest

from mmcse.data.annotations import Annotations
from mmcse.errors import MissingFileError, UserError
from mmcse.evaluation import parsing_scores, predictions, save_predictions, score_predictions

N, T, K = 6, 5, 3


@pytest.fixture
def truth(monkeypatch):
    rng = np.random.default_rng(0)
    audio, visual = rng.random((2, N, T, K)) < 0.5
    names = tuple(f"-video_{i:03}x_{i}_{i + 10}" for i in range(N))
    annotations = Annotations("test", names, audio.any(1), audio, visual)
    assert len(annotations.ids[0]) == 11
    monkeypatch.setattr(predictions, "read_annotations", lambda *args, **kwargs: annotations)
    return annotations


@pytest.fixture
def arrays(truth):
    rng = np.random.default_rng(1)
    audio, visual = rng.random((2, N, T, K))
    return {"ids": np.array(truth.ids), "audio": audio, "visual": visual}


@pytest.fixture
def score(tmp_path, truth):
    def save_and_score(**kwargs):
        np.savez(tmp_path / "p.npz", **kwargs)
        return score_predictions(tmp_path / "p.npz", tmp_path, "test")

    return save_and_score


def expected(truth, arrays, threshold=0.5):
    pred = arrays["audio"] >= threshold, arrays["visual"] >= threshold
    return parsing_scores(*pred, truth.true_audio, truth.true_visual)


def test_ids_in_any_order_and_form(truth, arrays, score):
    order = np.random.default_rng(2).permutation(N)
    forms = np.array(truth.ids), np.array(truth.names), np.array(truth.ids).astype("S")
    for ids in forms:
        assert score(ids=ids[order], audio=arrays["audio"][order], visual=arrays["visual"][order]) == expected(
            truth, arrays
        )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16])
def test_decisions_and_probabilities(truth, arrays, score, dtype):
    decided = {name: (arrays[name] >= 0.5).astype(dtype) for name in ("audio", "visual")}
    assert score(ids=arrays["ids"], **decided) == expected(truth, arrays)


def test_threshold(truth, arrays, tmp_path):
    save_predictions(tmp_path / "p.npz", truth.ids, arrays["audio"], arrays["visual"])
    scores = score_predictions(tmp_path / "p.npz", tmp_path, "test", threshold=0.8)
    assert scores == expected(truth, arrays, 0.8) != expected(truth, arrays)


def test_saved_in_one_piece(truth, arrays, tmp_path):
    file = tmp_path / "new" / "p.npz"
    save_predictions(file, truth.names, arrays["audio"], arrays["visual"] > 0.5)
    assert score_predictions(file, tmp_path, "test") == expected(truth, arrays)
    assert [f.name for f in file.parent.iterdir()] == ["p.npz"]
    with pytest.raises(UserError, match="for 5 ids"):
        save_predictions(file, truth.names[:5], arrays["audio"], arrays["visual"])


def first(n):
    return lambda a: {name: value[:n] for name, value in a.items()}


def change(name, value, at=()):
    def changed(arrays):
        copy = arrays[name].copy()
        copy[at] = value
        return arrays | {name: copy}

    return changed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (first(2), r"4 of the 6 videos of test are missing \(-video_002x_2_12, .* and 1 more\)"),
        (change("ids", "nobody_here", at=2), r"1 of the 6.*missing.*1 ids are not in test \(nobody_here\)"),
        (change("ids", "-video_001x", at=2), r"-video_002x.*1 ids are there twice \(-video_001x\)"),
        (change("audio", np.nan, at=(0, 0, 0)), "'audio' has 1 NaN"),
        (change("visual", np.inf, at=(0, 0)), "'visual' has 3 NaN or infinite"),
        (change("audio", -4.0, at=0), r"'audio' has values from -4 to .*not logits"),
        (lambda a: a | {"visual": a["visual"][:, :-1]}, r"'visual' has shape \(6, 4, 3\); expected \(6, 5, 3\)"),
        (lambda a: a | {"audio": a["audio"][:4]}, r"'audio' has shape \(4, 5, 3\).*6 ids"),
        (lambda a: a | {"audio": a["audio"].astype(str)}, "'audio' is <U"),
        (lambda a: a | {"ids": np.arange(N)}, "'ids' is int64"),
        (lambda a: a | {"ids": a["ids"][:, None]}, r"'ids' is .* of shape \(6, 1\)"),
        (lambda a: {"names": a["ids"], "audio": a["audio"]}, "holds names, audio, but not ids, visual"),
        (lambda a: a | {"ids": a["ids"].astype(object)}, "not Python objects"),
    ],
)
def test_what_cannot_be_scored_is_named(arrays, score, spoil, message):
    with pytest.raises(UserError, match=message):
        score(**spoil(arrays))


def test_no_file(truth, tmp_path):
    with pytest.raises(MissingFileError, match="no predictions file"):
        score_predictions(tmp_path / "p.npz", tmp_path, "test")


def test_something_else_than_an_archive(truth, arrays, tmp_path):
    file = tmp_path / "p.npz"
    for content in (b"", b"hello", b"\x93NUMPY\x01\x00v\x00"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"not an \.npz file"):
            score_predictions(file, tmp_path, "test")


def test_every_truncation_and_damage_is_found(truth, arrays, tmp_path):
    file = tmp_path / "p.npz"
    save_predictions(file, truth.ids, arrays["audio"], arrays["visual"])
    content = file.read_bytes()
    for length in range(2, len(content), 97):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=re.escape(str(file))):
            score_predictions(file, tmp_path, "test")
    spot = content.index(b"audio.npy") + 200
    file.write_bytes(content[:spot] + b"\x55" * 8 + content[spot + 8 :])
    with pytest.raises(UserError, match="truncated or damaged"):
        score_predictions(file, tmp_path, "test")


def test_a_split_without_dense_truth(truth, arrays, tmp_path, monkeypatch):
    sparse = Annotations("train", truth.names, truth.weak)
    monkeypatch.setattr(predictions, "read_annotations", lambda *args, **kwargs: sparse)
    save_predictions(tmp_path / "p.npz", truth.ids, arrays["audio"], arrays["visual"])
    with pytest.raises(UserError, match="Use val or test"):
        score_predictions(tmp_path / "p.npz", tmp_path, "train")


def test_the_true_labels_score_a_hundred_on_llp(shared, tmp_path):
    truth = predictions.read_annotations(shared / "llp", "test")
    save_predictions(tmp_path / "p.npz", truth.ids, truth.true_audio, truth.true_visual)
    scores = score_predictions(tmp_path / "p.npz", shared / "llp", "test")
    assert set(scores.values()) == {100.0}
    original = score_predictions(tmp_path / "p.npz", shared / "llp", "test", "AVVP_eval_audio_original.csv")
    assert 99.9 < original["segment/A"] < 100
