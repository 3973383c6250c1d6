import pytest

from mmcse.evaluation import SCORE_KEYS, score_table

SCORES = {key: 10.0 + i for i, key in enumerate(SCORE_KEYS)} | {"Avg": 14.5}


def test_every_number_stands_in_its_row_and_column():
    lines = score_table(SCORES, kind="real", title="MM-CSE, test").splitlines()
    assert lines[0].startswith("MM-CSE, test")
    assert lines[1].split() == ["A", "V", "AV", "Type", "Event"]
    assert lines[2].split() == ["segment", "10.00", "11.00", "12.00", "13.00", "14.00"]
    assert lines[3].split() == ["event", "15.00", "16.00", "17.00", "18.00", "19.00"]
    assert lines[4].split() == ["Avg", "14.50"]
    assert len({len(line) for line in lines[1:4]}) == 1


def test_video_level_f1_is_shown_where_it_is_known():
    text = score_table(SCORES | {"video/F1": 88.0}, kind="real", title="t")
    assert text.splitlines()[-1].split() == ["Avg", "14.50", "video-level", "F1", "88.00"]


@pytest.mark.parametrize(("kind", "words"), [("simulated", "SIMULATED"), ("fixture", "FIXTURE")])
def test_scores_of_made_up_data_say_so(kind, words):
    headline = score_table(SCORES, kind=kind, title="t").splitlines()[0]
    assert words in headline
    assert "says nothing about LLP" in headline
    assert words not in score_table(SCORES, kind="real", title="t")
