"""What JoMoLD, CMPAE and CVCMS drop where, and how much of it: numbers of the authors' code are without dropout."""

from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F

from mmcse.models import CMPAE, CVCMS, JoMoLD
from mmcse.models.attention import Attention
from mmcse.models.dropout import Dropout
from mmcse.models.feedforward import FeedForward

SIZES = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
VIDEOS = [torch.randn(6, count, width, generator=torch.Generator().manual_seed(1)).double() for count, width in
          ((7, 4), (14, 5), (7, 3))]  # fmt: skip


def rates(network):
    """Every rate of dropout in a network, by the part of it that has the rate."""
    found = defaultdict(set)
    for name, module in network.named_modules():
        if isinstance(module, Attention | Dropout | FeedForward):
            found[name.split(".0")[0]].add(module.dropout if isinstance(module, Attention) else module.rate)
    return found


@pytest.fixture
def seen():
    """Makes parts of a network leave what they last read and gave."""
    calls = defaultdict(list)

    def watch(network, *names):
        for name in names:
            module = network.get_submodule(name)
            module.register_forward_hook(lambda _, read, gave, name=name: calls[name].append((read[0], gave)))
        return calls

    return watch


def test_jomold_and_cmpae_drop_visual_features_alone_before_they_are_judged(seen):
    for network, judges in ((JoMoLD(**SIZES), ["head"]), (CMPAE(**SIZES), ["presence", "temporal"])):
        network = network.double().train()
        calls = seen(network, "class_dropout", *judges)
        out = network(*VIDEOS)
        audio, visual = out.encoded.unbind(dim=2)
        read, dropped = calls["class_dropout"][-1]
        assert torch.equal(read, visual)
        assert set((dropped / visual).round(decimals=3).unique().tolist()) == {0, 2}
        for judge in judges:
            assert torch.equal(calls[judge][-1][0], torch.stack((audio, dropped), dim=2))
        assert not torch.equal(
            dropped == 0, calls["class_dropout"][-2][1] == 0
        )  # without cross-attention: another mask
        calls.clear()
    assert rates(JoMoLD(**SIZES)) == {"layers": {0.1}, "class_dropout": {0.5}}


def test_cmpae_drops_what_is_added_before_absence_is_judged(seen):
    network = CMPAE(**SIZES).double().train()
    assert rates(network) == {"layers": {0.1}, "class_dropout": {0.5}, "absence_dropout": {0.2}}
    calls = seen(network, "presence", "absence_dropout", "absence")
    network(*VIDEOS)
    features, (hidden, dropped) = calls["presence"][-1][0], calls["absence_dropout"][-1]
    both = features.sum(dim=2)
    torch.testing.assert_close(hidden, torch.stack((network.audio_absence(both), network.visual_absence(both)), dim=2))
    assert ((dropped == 0) & (hidden != 0)).any()
    torch.testing.assert_close(calls["absence"][-1][0], features + F.leaky_relu(dropped, 0.2))


def test_cvcms_drops_inside_of_its_two_encoders_only():
    assert rates(CVCMS(**SIZES)) == {"layers": {0.4}, "event.layers": {0.25}}
    network = CVCMS(**SIZES, class_dim=4, dropout=0).double().train()
    first, second = network(*VIDEOS), network(*VIDEOS)
    assert torch.equal(first.encoded, second.encoded)
    assert torch.equal(first.temporal, second.temporal)
    assert not torch.equal(first.segment_logits, second.segment_logits)
    network = CVCMS(**SIZES, class_dim=4, dropout=0, class_dropout=0).double().train()
    trained, evaluated = network(*VIDEOS), network.eval()(*VIDEOS)
    torch.testing.assert_close(trained.video_prob, evaluated.video_prob)
