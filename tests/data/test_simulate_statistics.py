import json

import numpy as np
import pytest

from mmcse.data.simllp.counts import (
    LabelCounts,
    company,
    confusable_groups,
    coverage,
    segment_coverage,
    shipped_counts,
    shipped_json,
    states_before,
)
from mmcse.data.simllp.statistics import count_labels, main, statistics_of
from mmcse.vocabulary import LLP_CLASSES


def timeline(text: str) -> np.ndarray:
    return np.array([[c == "x" for c in row] for row in text.split()])


def test_recount_is_the_shipped_file(shared):
    assert json.loads(json.dumps(statistics_of(shared / "llp"))) == shipped_json()


def test_script_writes_the_shipped_file(shared, tmp_path, capsys):
    main([str(shared / "llp"), "--out", str(tmp_path / "counts.json")])
    main([str(shared / "llp")])
    text = (tmp_path / "counts.json").read_text()
    assert text == capsys.readouterr().out
    assert json.loads(text) == shipped_json()


def test_script_names_a_missing_file(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 1
    assert "AVVP_train.csv" in capsys.readouterr().err


def test_agrees_with_the_earlier_count(shared):
    """Where the prototype of SimLLP measured the same. Chains it counted otherwise (without what others do)."""
    earlier = json.loads((shared / "spec/simllp_stats.json").read_text())
    counts = shipped_counts()
    sets = {tuple(members): number for members, number in earlier["sets"]}
    assert {tuple(members): number for members, number in counts.train_label_sets} == sets
    surplus = counts.dense_labels / counts.dense_videos - counts.train_labels / counts.train_videos
    assert surplus.sum() == pytest.approx(earlier["n_extra"], abs=5e-4)
    weights = np.maximum(surplus, 0) / np.maximum(surplus, 0).sum()
    np.testing.assert_allclose(weights, earlier["extra"], atol=6e-4)
    modality = counts.modality.sum(axis=1) + 0.5
    np.testing.assert_allclose(modality / modality.sum(axis=1, keepdims=True), earlier["modality"], atol=6e-4)


def test_shipped_counts_are_consistent():
    counts, K = shipped_counts(), len(LLP_CLASSES)
    assert counts.num_classes == K
    assert counts.train_videos == 10_000
    assert counts.dense_videos == 1_849
    pairs = (counts.audio_fill, counts.visual_fill, counts.same, counts.audio_chain, counts.visual_chain)
    assert all((p[..., 0] <= p[..., 1]).all() and (p >= 0).all() for p in pairs)
    audible, both = counts.modality[:, :, [0, 2]].sum(axis=(1, 2)), counts.modality[:, :, 2].sum(axis=1)
    np.testing.assert_array_equal(counts.audio_fill[..., 1].sum(axis=(1, 2)), audible)
    np.testing.assert_array_equal(counts.same[..., 1].sum(axis=1), both)


def test_confusable_groups_partition_the_classes():
    members = [c for group in confusable_groups() for c in group]
    assert sorted(members) == list(range(len(LLP_CLASSES)))
    assert len(confusable_groups()) == 8


def test_json_round_trip():
    counts = shipped_counts()
    again = LabelCounts.from_json(json.loads(json.dumps(counts.to_json())))
    assert again.to_json() == counts.to_json()


def test_counts_of_one_small_video():
    """Class 1 comes first: audible and visible, differently. Class 0 follows: audible, where class 1 leaves a gap."""
    audio, visual = np.zeros((1, 4, 2), dtype=bool), np.zeros((1, 4, 2), dtype=bool)
    audio[0, :, 1], visual[0, :, 1] = timeline("xx..")[0], timeline("x...")[0]
    audio[0, :, 0] = timeline("..xx")[0]
    weak = np.ones((1, 2), dtype=bool)
    counts = count_labels(weak, weak, audio, visual)

    assert counts.train_label_sets == [((0, 1), 1)]
    assert counts.modality[1].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]  # the first of several: both
    assert counts.modality[0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]  # after a visible one: audible
    assert counts.same[1].tolist() == [[0, 1], [0, 0]]
    assert counts.audio_fill[0, 0].tolist() == [[0, 0], [0, 0], [0, 1], [0, 0]]
    assert counts.visual_fill[1, 1].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    # class 1: first of several, states first, on, on, ended
    assert counts.audio_chain[1, 1].tolist() == [[0, 0], [1, 2], [0, 1], [1, 1]]
    # class 0: in covered segments off at the first and while not begun; in the gap it begins and goes on
    assert counts.audio_chain[0, 3].tolist() == [[0, 1], [0, 0], [0, 0], [0, 1]]
    assert counts.audio_chain[0, 2].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    # class 1 to be seen: audible in two segments, then silent; the only visible event
    assert counts.visual_chain[1, 0].tolist() == [[0, 0], [0, 1], [0, 0], [1, 1]]
    assert counts.visual_chain[0, 0].tolist() == [[0, 0], [0, 0], [0, 2], [0, 0]]


def test_contexts():
    earlier = timeline(".... .x.. xxxx ....")
    events = np.array([1, 2, 2, 3])
    assert coverage(events, earlier).tolist() == [0, 2, 3, 1]
    assert segment_coverage(events, earlier).tolist() == [[0] * 4, [2, 3, 2, 2], [3] * 4, [1] * 4]
    assert states_before(timeline("..x.x")).tolist() == [[3, 0, 0, 1, 2]]
    others, visible = np.array([False, False, True, True]), np.array([False, False, False, True])
    assert company(np.array([1, 2, 2, 2]), others, visible).tolist() == [0, 1, 2, 3]
