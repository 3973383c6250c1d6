"""MA's label rule and objective against loops over their definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models import MA
from mmcse.objectives import HANObjective, MAObjective
from mmcse.objectives.ma import (
    ExchangedProbs,
    LabelChanges,
    ModalityProbs,
    class_errors,
    draw_partners,
    exchange_tracks,
    label_changes,
    refine,
)

seeds = st.integers(0, 2**31)
SMALL = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
SMALL |= {"feedforward_dim": 6}


def videos(count: int = 4, **labels: Tensor) -> Batch:
    return Batch(
        audio=torch.randn(count, 7, 4, dtype=torch.float64),
        visual=torch.randn(count, 7, 5, dtype=torch.float64),
        motion=torch.randn(count, 7, 3, dtype=torch.float64),
        **({"weak": torch.randint(2, (count, 3)).double()} | labels),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), seeds)
def test_labels_change_where_neither_modality_supports_them(count, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    prob = torch.rand(6, count, classes, generator=generator, dtype=torch.float64)
    weak = (torch.rand(count, classes, generator=generator) < 0.5).double()
    own, other_visual, other_audio = (ModalityProbs(*prob[i : i + 2]) for i in (0, 2, 4))
    changes = label_changes(weak, ExchangedProbs(own, other_visual, other_audio))
    for m, found, swapped in ((0, changes.audio, other_visual), (1, changes.visual, other_audio)):
        wrong = [sum(bool(prob[m, i, c] > 0.5) != bool(weak[i, c]) for i in range(count)) for c in range(classes)]
        for c in range(classes):
            for i in range(count):
                change = False
                if weak[i, c] and wrong[c]:
                    error = wrong[c] / max(wrong)
                    change = all(float(p[i, c]) / error < 0.5 for p in swapped)
                assert bool(found[i, c]) is change


def test_a_class_without_errors_keeps_its_labels():
    weak = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    right, wrong = weak.clone(), 1 - weak
    torch.testing.assert_close(class_errors(torch.stack((right[:, 0], wrong[:, 1]), 1), weak), torch.tensor([0.0, 1.0]))
    nothing_found = ModalityProbs(torch.zeros(2, 2), torch.zeros(2, 2))
    for own in (ModalityProbs(right, right), ModalityProbs(wrong, wrong)):
        changes = label_changes(weak, ExchangedProbs(own, nothing_found, nothing_found))
        expected = torch.zeros(2, 2).bool() if own.audio is right else weak.bool()
        assert torch.equal(changes.audio, expected)
        assert torch.equal(changes.visual, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), seeds)
def test_partners_share_no_event(count, seed):
    generator = torch.Generator().manual_seed(seed)
    weak = F.one_hot(torch.randint(4, (count,), generator=generator), 5).double()
    weak[0, :], weak[1, :] = 0, 0
    weak[0, 4] = weak[1, 3] = 1
    weak[2:, 3] = 0
    partners = draw_partners(weak, generator)
    assert not (weak * weak[partners]).any()
    again = draw_partners(weak, torch.Generator().manual_seed(seed))
    assert torch.equal(again, draw_partners(weak, torch.Generator().manual_seed(seed)))


def test_partners_are_uniform_and_a_video_without_one_is_named():
    weak = torch.eye(4)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_partners(weak, generator) for _ in range(2000)])
    assert (torch.bincount(drawn[:, 0], minlength=4) / 2000 - torch.tensor([0, 1, 1, 1]) / 3).abs().max() < 0.05
    weak[2] = 1
    with pytest.raises(UserError, match="video 0 has no partner"):
        draw_partners(weak[[2, 0, 1]])


def test_tracks_are_exchanged_with_motion_on_the_side_of_the_picture():
    seen: list[tuple[Tensor, ...]] = []

    def network(*features: Tensor, auxiliary: bool) -> ParserOutput:
        seen.append(features)
        prob = torch.zeros(4, 3)
        logits = torch.zeros(4, 7, 2, 3)
        return ParserOutput(segment_logits=logits, video_prob=prob, audio_prob=prob, visual_prob=prob)

    own, partners = videos(), videos()
    exchange_tracks(network, own, partners)
    expected = [
        (own.audio, own.visual, own.motion),
        (own.audio, partners.visual, partners.motion),
        (partners.audio, own.visual, own.motion),
    ]
    assert all(a is b for given, wanted in zip(seen, expected, strict=True) for a, b in zip(given, wanted, strict=True))


def test_refined_labels_reach_the_three_losses():
    torch.manual_seed(0)
    weak = torch.tensor([[1.0, 1, 1], [0, 1, 1]], dtype=torch.float64)
    plain = videos(2, weak=weak)
    kept_audio = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    kept_visual = torch.tensor([[0.0, 0, 1], [0, 1, 1]], dtype=torch.float64)
    batch = videos(2, weak=weak, weak_audio=kept_audio, weak_visual=kept_visual)
    network = MA(**SMALL).double().eval()
    out = network(batch.audio, batch.visual, batch.motion)

    def bce(prob: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy(prob.clamp(1e-7, 1 - 1e-7), label)

    targets = {"audio": kept_audio, "weak": weak, "union": kept_audio.maximum(kept_visual)}
    visual = torch.tensor([[0.0, 0, 0.95], [0.05, 0.95, 0.95]], dtype=torch.float64)
    for video_target, label in targets.items():
        losses = MAObjective(video_target=video_target)(out, batch)
        torch.testing.assert_close(losses["video"], bce(out.video_prob, label))
        torch.testing.assert_close(losses["audio"], bce(out.audio_prob, kept_audio))
        torch.testing.assert_close(losses["visual"], bce(out.visual_prob, visual))
        parts = losses["audio"] + losses["visual"] + losses["video"] + losses["contrast"]
        torch.testing.assert_close(losses["total"], parts)
    on_weak = MAObjective(contrast=0)(out, plain)  # the first step without contrast is HAN's objective
    torch.testing.assert_close(on_weak["total"], HANObjective()(out, plain)["total"])


def test_changes_are_taken_from_the_weak_label():
    batch = videos(2, weak=torch.tensor([[1.0, 1, 0], [0, 1, 1]]))
    removed = torch.tensor([[True, False, True], [False, False, True]])
    audio, visual = refine(batch, LabelChanges(audio=removed, visual=~removed))
    assert audio.tolist() == [[0, 1, 0], [0, 1, 0]]
    assert visual.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_mistakes_are_named():
    with pytest.raises(UserError, match="video_target is 'visual'; expected 'audio', 'weak' or 'union'"):
        MAObjective(video_target="visual")
