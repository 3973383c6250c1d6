"""CMPAE's parts at any size, its switches, and its mutual loss against a loop."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.batch import Batch
from mmcse.errors import UserError
from mmcse.models import CMPAE, HAN
from mmcse.models.cmpae import beta_of, evidence
from mmcse.models.reference import load_reference_state, to_reference_state
from mmcse.objectives import CMPAEObjective
from mmcse.objectives.cmpae import mutual_loss
from mmcse.objectives.denoising import NoiseRatios

SMALL = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
SMALL |= {"num_layers": 2, "num_heads": 2, "feedforward_dim": 6}


def videos(count: int = 4, segments: int = 7, classes: int = 3, frames: int = 2) -> Batch:
    return Batch(
        audio=torch.randn(count, segments, 4, dtype=torch.float64),
        visual=torch.randn(count, segments * frames, 5, dtype=torch.float64),
        motion=torch.randn(count, segments, 3, dtype=torch.float64),
        weak=torch.randint(2, (count, classes)).double(),
    )


def features(batch: Batch):
    return batch.audio, batch.visual, batch.motion


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_probabilities_and_uncertainties_at_any_size(segments, classes, layers, seed):
    torch.manual_seed(seed)
    sizes = SMALL | {"num_segments": segments, "num_classes": classes, "num_layers": layers}
    network, batch = CMPAE(**sizes).double().eval(), videos(2, segments, classes)
    out = network(*features(batch))
    assert out.segment_logits.shape == (2, segments, 2, classes)
    for x in (out.segment_prob, out.video_prob, out.audio_prob, out.segment_uncertainty, out.video_uncertainty):
        assert ((x > 0) & (x < 1)).all()
    other = CMPAE(**sizes).double().eval()
    load_reference_state(other, to_reference_state(network))
    assert torch.equal(other(*features(batch)).segment_logits, out.segment_logits)


def test_the_front_end_activates_frames_before_it_averages_them():
    network, batch = CMPAE(**SMALL).double().eval(), videos()
    front = network.front_end
    of_frames = F.elu(front.visual(batch.visual)).unflatten(1, (7, 2)).mean(dim=2)
    expected = F.elu(front.fusion(torch.cat((of_frames, F.elu(front.motion(batch.motion))), dim=-1)))
    torch.testing.assert_close(network(*features(batch)).projected[:, :, 1], expected)
    averaged = network(batch.audio, batch.visual.unflatten(1, (7, 2)).mean(dim=2), batch.motion)
    assert not torch.allclose(averaged.projected, network(*features(batch)).projected)


def test_evidence_is_bounded_and_no_evidence_is_no_knowledge():
    assert evidence(torch.tensor([-50.0, -10.0])).unique().numel() == 1
    assert evidence(torch.tensor([50.0, 10.0])).unique().numel() == 1
    nothing = beta_of(torch.full((1, 2), -50.0, dtype=torch.float64))
    assert float(nothing.uncertainty) == pytest.approx(1, abs=1e-5)
    assert float(nothing.prob) == pytest.approx(0.5)


def test_absence_of_a_modality_depends_on_the_other_one_unless_told_otherwise():
    torch.manual_seed(0)
    batch = videos()
    for absence, isolated in (("both", False), ("own", True)):
        network = CMPAE(**SMALL, absence=absence, evaluation_mix=0).double().eval()  # no cross-attention
        heard, other = network(*features(batch)), network(torch.randn_like(batch.audio), batch.visual, batch.motion)
        assert torch.allclose(heard.visual_prob, other.visual_prob) is isolated


def test_the_mixture_of_both_parsings_lies_between_them():
    network, batch = CMPAE(**SMALL).double().eval(), videos()
    parsings = []
    for mix in (1.0, 0.0, 0.25):
        network.evaluation_mix = mix
        parsings.append(network(*features(batch)))
    both, alone, mixed = parsings
    for name in ("segment_prob", "audio_prob", "visual_prob", "segment_uncertainty"):
        expected = 0.25 * getattr(both, name) + 0.75 * getattr(alone, name)
        torch.testing.assert_close(getattr(mixed, name), expected, rtol=1e-12, atol=0)


def test_training_reaches_every_parameter_with_denoising_on():
    torch.manual_seed(0)
    network, batch = CMPAE(**SMALL).double().train(), videos(16)
    objective = CMPAEObjective(noise_ratios=NoiseRatios(*torch.full((2, 3), 0.5)))
    objective.on_train_batch_start(1, 1, 4)
    out = network(*features(batch))
    assert not out.unimodal.segment_logits.requires_grad
    losses = objective(out, batch)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    expected = 2 * losses["audio"] + 0.6 * (losses["visual"] + losses["video"]) + losses["contrast"] + losses["mutual"]
    torch.testing.assert_close(losses["total"], expected)
    assert not {"contrast", "mutual"} & CMPAEObjective(contrast=0, mutual=0)(out, batch).keys()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["video", "modalities"]), st.integers(0, 2**31))
def test_mutual_loss_is_the_mean_over_videos_and_classes(count, classes, learner, seed):
    torch.manual_seed(seed)
    g, a, v, ua, uv = torch.rand(5, count, classes, dtype=torch.float64)
    ug, weak = torch.rand(count, dtype=torch.float64), torch.randint(2, (count, classes)).double()
    terms = []
    for b in range(count):
        trust = max(float(ug[b]), 0.9)
        for k in range(classes):
            if weak[b, k]:
                prob, uncertainty = max((float(p[b, k]), float(u[b, k])) for p, u in ((a, ua), (v, uv)))
            else:
                prob, uncertainty = float(a[b, k] + v[b, k]) / 2, float(ua[b, k] + uv[b, k]) / 2
            weight = trust if learner == "video" else 1 - trust
            terms.append(weight * (1 - uncertainty) * (float(g[b, k]) - prob) ** 2)
    assert float(mutual_loss(g, a, v, ua, uv, ug, weak, learner)) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_batches_teach_in_turn():
    torch.manual_seed(0)
    network, batch = CMPAE(**SMALL, evaluation_mix=1).double().eval(), videos()
    objective = CMPAEObjective(audio=0, visual=0, video=0, contrast=0)
    for index, learner in ((0, "modalities"), (1, "video"), (2, "modalities"), (79, "video")):
        objective.on_train_batch_start(0, index, 80)
        out = network(*features(batch))
        out = replace(out, video_prob=out.video_prob.detach().requires_grad_())
        objective(out, batch)["total"].backward()
        assert bool(out.video_prob.grad.any()) == (learner == "video")


def test_mistakes_are_named():
    with pytest.raises(UserError, match="absence is 'none'; expected 'both' or 'own'"):
        CMPAE(**SMALL, absence="none")
    with pytest.raises(UserError, match=re.escape("feature_mix is 2; expected a number from 0 to 1")):
        CMPAE(**SMALL, feature_mix=2)
    batch = videos()
    with pytest.raises(UserError, match=r"model=cmpae"):
        CMPAEObjective()(HAN(**SMALL).double()(*features(batch)), batch)
    with pytest.raises(UserError, match="learner is 'audio'"):
        mutual_loss(*torch.rand(5, 1, 2), torch.rand(1), torch.rand(1, 2), "audio")
