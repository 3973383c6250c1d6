"""The objectives of LEAP, MGN, DHHN and LFAV: targets by loops, terms, weights, and where no gradient passes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_zoo import small, small_videos
from mmcse.errors import UserError
from mmcse.models import DHHN, LEAP, LFAV, MGN
from mmcse.objectives import DHHNObjective, HANObjective, LEAPObjective, LFAVObjective, MGNObjective
from mmcse.objectives.dhhn import refined_targets, weak_targets
from mmcse.objectives.leap import predicted_events, shared_events, similarity_loss
from mmcse.objectives.mgn import token_loss


def parse(network, batch):
    return network(batch.audio, batch.visual, batch.motion)


def bce(prob, label):
    return F.binary_cross_entropy(prob.clamp(1e-7, 1 - 1e-7), label)


# LEAP


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.floats(0, 1), st.integers(0, 2**31))
def test_shared_events_by_loops(videos, segments, classes, density, seed):
    generator = torch.Generator().manual_seed(seed)
    audio, visual = ((torch.rand(videos, segments, classes, generator=generator) < density).double() for _ in range(2))
    found = shared_events(audio, visual)
    for b in range(videos):
        most = max(int(x[b, t].sum()) for x in (audio, visual) for t in range(segments))
        for t in range(segments):
            for s in range(segments):
                shared = sum(int(audio[b, t, k] and visual[b, s, k]) for k in range(classes))
                ratio = shared / most if most else 0
                assert float(found[b, t, s]) == pytest.approx(ratio / (1 + ratio) + 0.01, abs=1e-12)
    assert (found >= 0.01).all()
    assert (found <= 0.51 + 1e-12).all()


def test_similarity_of_segments_by_loops():
    torch.manual_seed(0)
    encoded, target = torch.randn(2, 3, 2, 4).double(), torch.rand(2, 3, 3).double()
    terms = [
        (F.cosine_similarity(encoded[b, t, 0], encoded[b, s, 1], dim=0).clamp(min=0) - target[b, t, s]) ** 2
        for b in range(2)
        for t in range(3)
        for s in range(3)
    ]
    torch.testing.assert_close(similarity_loss(encoded, target), torch.stack(terms).mean())


def test_predictions_are_gated_by_their_own_modality():
    out = parse(small(LEAP, 5, 3, encoder="han"), small_videos(5, 3))
    probabilities = {name: torch.rand(3, 3).double() for name in ("audio_prob", "visual_prob")}
    out = replace(out, segment_logits=torch.randn(3, 5, 2, 3).double(), **probabilities)
    audio, visual = predicted_events(out)
    for found, index, prob in ((audio, 0, out.audio_prob), (visual, 1, out.visual_prob)):
        expected = (out.segment_logits[:, :, index] >= 0) & (prob >= 0.5)[:, None]
        assert torch.equal(found, expected.double())
    assert 0 < audio.mean() < 1
    assert not audio.requires_grad


@pytest.mark.parametrize(("segment", "similarity"), [(1.0, 1.0), (0.5, 2.0), (0.0, 0.0)])
def test_terms_of_leap_on_pseudo_labels(segment, similarity):
    batch = small_videos(5, 3)
    out = parse(small(LEAP, 5, 3, encoder="han"), batch)
    losses = LEAPObjective(segment=segment, similarity=similarity)(out, batch)
    audio, visual = batch.pseudo_audio, batch.pseudo_visual
    expected = {
        "audio": bce(out.audio_prob, audio.amax(dim=1)),
        "visual": bce(out.visual_prob, visual.amax(dim=1)),
        "video": bce(out.video_prob, batch.weak),
        "segment_audio": bce(out.segment_prob[:, :, 0], audio),
        "segment_visual": bce(out.segment_prob[:, :, 1], visual),
        "similarity": similarity_loss(out.encoded, shared_events(audio, visual)),
    }
    for name, term in expected.items():
        torch.testing.assert_close(losses[name], term)
    weights = {"segment_audio": segment, "segment_visual": segment, "similarity": similarity}
    total = sum(weights.get(name, 1) * term for name, term in expected.items())
    torch.testing.assert_close(losses["total"], total)


def test_leap_without_pseudo_labels_repeats_the_weak_one_whatever_was_refined():
    batch = replace(small_videos(5, 3), pseudo_audio=None, pseudo_visual=None)
    assert not torch.equal(batch.weak_audio, batch.weak)
    assert not torch.equal(batch.weak_visual, batch.weak)
    out = parse(small(LEAP, 5, 3, encoder="han"), batch)
    losses = LEAPObjective(labels="weak")(out, batch)
    smoothed = 0.9 * batch.weak + 0.05
    torch.testing.assert_close(losses["audio"], bce(out.audio_prob, batch.weak))
    torch.testing.assert_close(losses["visual"], bce(out.visual_prob, smoothed))
    repeated = smoothed[:, None].expand(-1, 5, -1)
    torch.testing.assert_close(losses["segment_visual"], bce(out.segment_prob[:, :, 1], repeated))
    torch.testing.assert_close(
        losses["segment_audio"], bce(out.segment_prob[:, :, 0], batch.weak[:, None].expand(-1, 5, -1))
    )
    with pytest.raises(UserError, match="needs segment pseudo labels"):
        LEAPObjective()(out, batch)


def test_leap_can_compare_features_by_its_own_predictions():
    batch = small_videos(5, 3)
    out = parse(small(LEAP, 5, 3, encoder="han"), batch)
    by_labels, by_predictions = (LEAPObjective(similarity_labels=x)(out, batch) for x in ("labels", "predictions"))
    expected = similarity_loss(out.encoded, shared_events(*predicted_events(out)))
    torch.testing.assert_close(by_predictions["similarity"], expected)
    assert {name for name in by_labels if by_labels[name] != by_predictions[name]} == {"similarity", "total"}


def test_a_wrong_video_of_the_thresholded_or_costs_sixteen():
    batch = small_videos(5, 3)
    out = parse(small(LEAP, 5, 3, encoder="han"), batch)
    wrong = float((out.video_prob != batch.weak).double().mean())
    assert float(LEAPObjective()(out, batch)["video"]) == pytest.approx(16.118 * wrong, rel=1e-3)
    assert wrong > 0


# MGN


@given(st.integers(1, 6), st.integers(0, 2**31))
def test_a_class_token_is_to_be_recognised_as_its_class(classes, seed):
    logits = torch.randn(classes, classes, generator=torch.Generator().manual_seed(seed)).double()
    expected = -torch.stack([logits[k].log_softmax(dim=0)[k] for k in range(classes)]).mean()
    torch.testing.assert_close(token_loss(logits), expected)


def test_mgn_adds_its_tokens_to_hans_terms():
    batch = small_videos(5, 3)
    out = parse(small(MGN, 5, 3, num_heads=2), batch)
    losses, of_han = MGNObjective()(out, batch), HANObjective()(out, batch)
    assert losses.keys() - of_han.keys() == {"token_audio", "token_visual"}
    assert all(torch.equal(losses[name], of_han[name]) for name in ("audio", "visual", "video"))
    torch.testing.assert_close(losses["total"], of_han["total"] + losses["token_audio"] + losses["token_visual"])


# DHHN


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 6), st.sampled_from((0.0, 0.1, 0.4)), st.integers(0, 2**31))
def test_refined_targets_by_loops(videos, classes, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    weak, kept_audio, kept_visual = (
        (torch.rand(videos, classes, generator=generator) < 0.6).double() for _ in range(3)
    )
    aliased = refined_targets(weak, kept_audio, kept_visual, smoothing)
    clean = refined_targets(weak, kept_audio, kept_visual, smoothing, video_target="weak")
    for b in range(videos):
        for k in range(classes):
            audio = weak[b, k] if kept_audio[b, k] else 0
            smooth = (1 - smoothing) * weak[b, k] + smoothing / 2
            visual = 0 if weak[b, k] and not kept_visual[b, k] else smooth
            assert aliased.audio[b, k] == aliased.audio_guide[b, k] == clean.audio[b, k] == audio
            assert aliased.visual[b, k] == aliased.visual_guide[b, k] == clean.visual[b, k] == visual
            assert aliased.video[b, k] == audio  # the released code's shared array
            assert clean.video[b, k] == weak[b, k]


def test_weak_targets_smooth_the_parsers_visual_label_alone():
    weak = torch.tensor([[1.0, 0.0]])
    targets = weak_targets(weak)
    torch.testing.assert_close(targets.visual, torch.tensor([[0.95, 0.05]]))
    assert all(torch.equal(x, weak) for name, x in targets._asdict().items() if name != "visual")


@pytest.mark.parametrize(
    ("guides", "of_guides"),
    [
        ("both", {"distil_audio", "distil_visual", "guide_audio", "guide_visual", "adversarial", "guide_adversarial"}),
        ("audio", {"distil_audio", "guide_audio"}),
        ("visual", {"distil_visual", "guide_visual"}),
        ("none", set()),
    ],
)
def test_terms_of_dhhn_follow_its_guides(guides, of_guides):
    batch = small_videos(5, 3)
    losses = DHHNObjective("refined")(parse(small(DHHN, 5, 3, guide_heads=2, guides=guides), batch), batch)
    assert losses.keys() == {"total", "audio", "visual", "video"} | of_guides
    torch.testing.assert_close(losses["total"], sum(loss for name, loss in losses.items() if name != "total"))
    assert all(losses[name] < 0 for name in losses if "adversarial" in name)


def test_no_gradient_passes_between_the_parser_and_its_guides():
    batch, network = small_videos(5, 3), small(DHHN, 5, 3, guide_heads=2)
    losses = DHHNObjective("refined")(parse(network, batch), batch)
    guides = [p for p in network.parameters() if not any(p is q for q in network.parser.parameters())]
    of_guides = [loss for name, loss in losses.items() if name.startswith("guide")]
    of_parser = [loss for name, loss in losses.items() if name != "total" and not name.startswith("guide")]
    sum(of_guides).backward(retain_graph=True)
    assert all(p.grad is None for p in network.parser.parameters())
    assert any(p.grad is not None for p in guides)
    network.zero_grad()
    sum(of_parser).backward()
    assert all(p.grad is None for p in guides)


def test_refined_labels_are_not_passed_over():
    """`model=dhhn stages=ma_base` without `objective.labels=refined` would train MA for nothing."""
    batch, network = small_videos(5, 3), small(DHHN, 5, 3, guide_heads=2)
    with pytest.raises(UserError, match=r"has refined labels .* say objective.labels=refined \(model=dhhn_retrain"):
        DHHNObjective()(parse(network, batch), batch)
    DHHNObjective()(parse(network, batch), replace(batch, weak_audio=None, weak_visual=None))


@pytest.mark.parametrize("missing", ["weak_audio", "weak_visual"])
def test_labels_of_the_modalities_are_asked_for(missing):
    batch = replace(small_videos(5, 3), **{missing: None})
    for objective, network in (
        (DHHNObjective("refined"), small(DHHN, 5, 3, guide_heads=2)),
        (LFAVObjective(labels="modality"), small(LFAV, 5, 3, num_heads=2, num_levels=2)),
    ):
        with pytest.raises(UserError, match="modality, and the batch has none"):
            objective(parse(network, batch), batch)


# LFAV


def test_terms_of_lfav_and_its_warm_up():
    batch, network = small_videos(5, 3), small(LFAV, 5, 3, num_heads=2, num_levels=2)
    out, objective = parse(network, batch), LFAVObjective(warm_up=2)
    smoothed = 0.9 * batch.weak + 0.05
    always = {
        "stage1": bce(out.first.prob[:, 0], batch.weak) + bce(out.first.prob[:, 1], smoothed),
        "stage2": bce(out.audio_prob, batch.weak) + bce(out.visual_prob, smoothed),
    }
    later = {
        "stage3": bce(out.events.reweighted_prob[:, 0], batch.weak) + bce(out.events.reweighted_prob[:, 1], smoothed)
    }
    for index, (name, label) in enumerate((("event_audio", batch.weak), ("event_visual", smoothed))):
        pairs = out.events.exists[:, index].nonzero().tolist()
        terms = [bce(out.events.related_prob[b, index, k], label[b, k]) for b, k in pairs]
        later[name] = torch.stack(terms).mean()
    for epoch in range(4):
        objective.on_train_batch_start(epoch, batch=0, num_batches=9)
        losses = objective(out, batch)
        for name, term in (always | later).items():
            torch.testing.assert_close(losses[name], term)
        expected = always["stage1"] + always["stage2"]
        if epoch >= 2:
            expected = expected + later["stage3"] + 0.3 * (later["event_audio"] + later["event_visual"])
        torch.testing.assert_close(losses["total"], expected)


def test_the_warm_up_gives_stage_three_no_gradient_at_all():
    """A gradient of zero would let Adam count steps for it."""
    batch, network, objective = small_videos(5, 3), small(LFAV, 5, 3, num_heads=2, num_levels=2), LFAVObjective()
    objective.on_train_batch_start(epoch=0, batch=0, num_batches=1)
    objective(parse(network, batch), batch)["total"].backward()
    assert all(p.grad is None for p in network.interaction.parameters())
    objective.on_train_batch_start(epoch=6, batch=0, num_batches=1)
    objective(parse(network, batch), batch)["total"].backward()
    assert all(p.grad is not None for p in network.interaction.parameters())


def test_a_modality_without_events_has_no_event_term():
    batch, network = small_videos(5, 3), small(LFAV, 5, 3, num_heads=2, num_levels=2, threshold=1.0)
    losses = LFAVObjective()(parse(network, batch), batch)
    assert losses.keys() == {"total", "stage1", "stage2", "stage3"}
    torch.testing.assert_close(losses["total"], losses["stage1"] + losses["stage2"] + losses["stage3"])


@pytest.mark.parametrize(
    ("build", "arguments", "said"),
    [
        (LEAPObjective, {"labels": "strong"}, "labels is 'strong'; expected 'pseudo' or 'weak'"),
        (LEAPObjective, {"similarity_labels": "x"}, "similarity_labels is 'x'; expected 'labels' or 'predictions'"),
        (LEAPObjective, {"visual_smoothing": 2}, "visual_smoothing is 2"),
        (MGNObjective, {"visual_smoothing": -1}, "visual_smoothing is -1"),
        (DHHNObjective, {"labels": "strong"}, "labels is 'strong'; expected 'weak' or 'refined'"),
        (DHHNObjective, {"video_target": "x"}, "video_target is 'x'; expected 'refined_audio' or 'weak'"),
        (DHHNObjective, {"visual_smoothing": 2}, "visual_smoothing is 2"),
        (LFAVObjective, {"labels": "strong"}, "labels is 'strong'; expected 'weak' or 'modality'"),
        (LFAVObjective, {"warm_up": -1}, "warm_up is -1"),
        (LFAVObjective, {"visual_smoothing": 2}, "visual_smoothing is 2"),
    ],
)
def test_impossible_arguments_are_refused(build, arguments, said):
    with pytest.raises(UserError, match=said):
        build(**arguments)
