"""Who needs the frames of a video, and which banks have them."""

import pytest

from mmcse.data import FeatureBank
from mmcse.data.frames import check_frames
from mmcse.data.manifest import TOKENS
from mmcse.errors import UserError
from mmcse.models import CMPAE, HAN


@pytest.fixture
def bank(smoke_bank):
    return FeatureBank.open(smoke_bank)


def test_of_simulated_features_it_is_said_that_they_have_no_frames(bank, caplog):
    check_frames(HAN, bank)
    assert not caplog.text
    check_frames(CMPAE, bank)
    assert "CMPAE activates the frames of a segment" in caplog.text
    assert "simulated features have no frames" in caplog.text


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ({"layout": "llp"}, True),
        ({"layout": "llp", TOKENS: "stored"}, False),  # the files had a vector for each segment
        ({"layout": "valor"}, False),  # so has CLIP
        ({"layout": "mine"}, False),
    ],
)
def test_averages_are_refused_where_frames_were_averaged(bank, monkeypatch, caplog, source, refused):
    monkeypatch.setattr(bank, "kind", "real")
    monkeypatch.setattr(bank, "source", source)
    check_frames(HAN, bank)
    if refused:
        with pytest.raises(UserError, match=r"holds averages\. Use data=llp_vggish_resnet_frames"):
            check_frames(CMPAE, bank)
    else:
        check_frames(CMPAE, bank)
    assert not caplog.text
