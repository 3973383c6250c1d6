"""The linear probe: no segment and no modality sees another one."""

import pytest
import torch

from mmcse.models import LinearProbe, count_parameters

B, T, K, D = 2, 7, 5, 6
WIDTHS = {"audio": 4, "visual": 9, "motion": 3}


@pytest.fixture
def probe():
    torch.manual_seed(0)
    return LinearProbe(*WIDTHS.values(), num_classes=K, num_segments=T, hidden_dim=D).double()


def features():
    return {name: torch.randn(B, T, width, dtype=torch.float64) for name, width in WIDTHS.items()}


@pytest.mark.parametrize(("stream", "modality"), [("audio", 0), ("visual", 1), ("motion", 1)])
def test_a_segment_of_a_stream_reaches_that_segment_of_its_modality_only(probe, stream, modality):
    inputs = features()
    before = probe(**inputs).segment_logits
    inputs[stream][:, 3] += 1
    changed = (probe(**inputs).segment_logits != before).any(dim=-1).any(dim=0)  # (T, 2)
    assert changed.nonzero().tolist() == [[3, modality]]


def test_segments_are_linear_in_the_features(probe):
    one, other = features(), features()
    mixed = {name: 0.3 * one[name] + 0.7 * other[name] for name in one}
    expected = 0.3 * probe(**one).segment_logits + 0.7 * probe(**other).segment_logits
    torch.testing.assert_close(probe(**mixed).segment_logits, expected, rtol=0, atol=1e-12)


def test_parameters_are_those_of_front_end_and_head(probe):
    front_end = sum(width * D + D for width in WIDTHS.values()) + 2 * D * D + D
    assert count_parameters(probe) == (front_end + 3 * (D * K + K), 0)
