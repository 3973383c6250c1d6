"""LFAV against the literal implementation: long videos, windows that are completed, few or no events, both rolls."""

import pytest
import torch
from torch.autograd import grad

from golden_hybrids import seeded
from golden_zoo import small_videos
from literal_lfav import LiteralLFAV, literal_loss
from mmcse.models import LFAV
from mmcse.models.reference import to_reference_state
from mmcse.objectives import LFAVObjective

SIZES = {"audio_dim": 6, "visual_dim": 7, "motion_dim": 5, "hidden_dim": 8}
CASES = {
    "10-segments": {"segments": 10, "levels": 4},
    "30-segments": {"segments": 30, "levels": 5},
    "40-segments": {"segments": 40, "levels": 6},
    "60-segments": {"segments": 60, "levels": 6},
    "half-window": {"segments": 30, "levels": 5, "roll": "half_window"},
    "eight-and-four-heads": {"segments": 10, "levels": 4, "num_heads": 4, "window_heads": 8},
    "most-active": {"segments": 30, "levels": 5, "threshold": 0.2},
    "few-active": {"segments": 30, "levels": 5, "threshold": 0.9},
    "none-active": {"segments": 10, "levels": 4, "threshold": 1.0},
}


def built(case, classes=4):
    arguments = {"threshold": 0.5, "num_heads": 2, **case}
    segments, levels = arguments.pop("segments"), arguments.pop("levels")
    network = LFAV(**SIZES, num_classes=classes, num_segments=segments, num_levels=levels, **arguments)
    return seeded(network), small_videos(segments, classes, count=2)


def literal(network, case):
    levels = range(case["levels"])
    half = case.get("roll") == "half_window"
    heads = case.get("num_heads", 2)
    return LiteralLFAV(
        to_reference_state(network),
        len(levels),
        case.get("window_heads", heads),
        heads,
        network.threshold,
        tuple(2**level if half else 1 for level in levels),
    )


def check(network, batch, case):
    """Every output of both, and the gradient of the loss at the features."""
    features = [x.clone().requires_grad_() for x in (batch.audio, batch.visual, batch.motion)]
    out, oracle = network(*features), literal(network, case)
    videos = [oracle(*(x[b] for x in features)) for b in range(len(batch))]

    def of_all(name):
        return torch.stack([getattr(video, name) for video in videos])

    exists = of_all("exists")
    close = {"rtol": 1e-9, "atol": 1e-12}
    assert torch.equal(out.events.exists, exists)
    torch.testing.assert_close(out.first.logits.sigmoid().transpose(1, 2), of_all("first_segments"), **close)
    torch.testing.assert_close(out.segment_prob.transpose(1, 2), of_all("segments"), **close)
    torch.testing.assert_close(torch.stack((out.audio_prob, out.visual_prob), dim=1), of_all("second"), **close)
    torch.testing.assert_close(out.events.reweighted_prob, of_all("third"), **close)
    torch.testing.assert_close(out.events.prob[exists], of_all("events")[exists], **close)
    torch.testing.assert_close(out.events.related_prob[exists], of_all("related")[exists], **close)

    losses = LFAVObjective(third=0.7, event=0.4)(out, batch)
    targets = torch.stack((batch.weak, 0.9 * batch.weak + 0.05), dim=1)
    expected = literal_loss(videos, targets, third=0.7, event=0.4)
    torch.testing.assert_close(losses["total"], expected, **close)
    for ours, theirs in zip(grad(losses["total"], features), grad(expected, features), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)
    return out


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_the_literal_implementation(case):
    network, batch = built(case)
    out = check(network, batch, case)
    share = out.active.double().mean()
    if case.get("threshold", 0.5) == 1.0:
        assert share == 0
    else:
        assert 0 < share < 1


def test_a_modality_may_have_no_event_and_the_other_few():
    case = {"segments": 10, "levels": 4}
    network, batch = built(case)
    found = network(batch.audio, batch.visual, batch.motion).first.logits.detach().sigmoid().amax(dim=(0, 1, 3))
    network.threshold = float(found.sort().values.mean())  # between the highest probabilities of both modalities
    out = check(network, batch, case)
    events = out.events.exists.sum(dim=(0, 2))
    assert events.min() == 0
    assert 1 <= events.max() <= 4
    assert torch.equal(events > 0, found >= network.threshold)
