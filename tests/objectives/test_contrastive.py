"""The contrast of segments against loops over its definition."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_zoo import small, small_videos
from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models import CMPAE, JoMoLD
from mmcse.objectives import CMPAEObjective, JoMoLDObjective
from mmcse.objectives.contrastive import contrastive_loss, hybrid_output, segment_similarities


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.floats(0, 1), st.sampled_from(["mixture", "cross_entropy"]),
       st.integers(0, 2**31))  # fmt: skip
def test_contrast_is_the_mean_over_rows(videos, segments, smoothing, form, seed):
    torch.manual_seed(seed)
    logits = torch.randn(videos, segments, segments, dtype=torch.float64)
    terms = []
    for video in logits.exp().tolist():
        for t, row in enumerate(video):
            prob = [value / sum(row) for value in row]
            target = [1 - smoothing if s == t else smoothing / (segments - 1) for s in range(segments)]
            if form == "mixture":
                mixed = sum(q * p for q, p in zip(target, prob, strict=True))
                terms.append(-math.log(mixed) if mixed > 0 else math.inf)  # one segment, smoothed away
            else:
                terms.append(-sum(q * math.log(p) for q, p in zip(target, prob, strict=True)))
    assert float(contrastive_loss(logits, smoothing, form)) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_the_two_forms_agree_without_smoothing_only():
    logits = torch.randn(2, 5, 5, dtype=torch.float64)
    plain = F.cross_entropy(logits.flatten(0, 1), torch.arange(5).repeat(2))
    torch.testing.assert_close(contrastive_loss(logits, 0.0, "mixture"), plain)
    torch.testing.assert_close(contrastive_loss(logits, 0.0, "cross_entropy"), plain)
    assert contrastive_loss(logits, 0.1, "mixture") < contrastive_loss(logits, 0.1, "cross_entropy")


@pytest.mark.parametrize(("build", "objective"), [(JoMoLD, JoMoLDObjective), (CMPAE, CMPAEObjective)])
def test_the_form_is_a_switch_of_the_objectives_that_take_the_logarithm_of_a_mixture(build, objective):
    batch = small_videos(5, 3)
    out = small(build, 5, 3)(batch.audio, batch.visual, batch.motion)
    logits = segment_similarities(*out.encoded.unbind(dim=2))
    for arguments, form in (({}, "mixture"), ({"contrast_form": "cross_entropy"}, "cross_entropy")):
        torch.testing.assert_close(objective(**arguments)(out, batch)["contrast"], contrastive_loss(logits, 0.1, form))


def test_similarities_are_cosines_of_audio_rows_and_visual_columns():
    audio, visual = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    found = segment_similarities(audio, visual, temperature=0.5)
    for t in range(3):
        for s in range(3):
            torch.testing.assert_close(found[:, t, s], F.cosine_similarity(audio[:, t], visual[:, s]) / 0.5)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="form is 'log'; expected 'mixture' or 'cross_entropy'"):
        contrastive_loss(torch.zeros(1, 2, 2), form="log")
    prob = torch.zeros(1, 2)
    out = ParserOutput(segment_logits=torch.zeros(1, 2, 2, 2), video_prob=prob, audio_prob=prob, visual_prob=prob)
    with pytest.raises(UserError, match="network's output has none"):
        hybrid_output(out)
