"""Each loss term in float64 against a loop over its definition."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcse.objectives.classification import PROBABILITY_MARGIN, segment_loss, video_loss
from mmcse.objectives.cooccurrence import cooccurrence_loss
from mmcse.objectives.orthogonality import orthogonality_loss
from mmcse.objectives.reconstruction import reconstruction_loss

counts = st.integers(1, 5)
seeds = st.integers(0, 2**31)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean(terms: list[float]) -> float:
    return math.fsum(terms) / len(terms)


def cross_entropy(p: float, y: float) -> float:
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def cosine(u: Tensor, v: Tensor) -> float:
    return float(u @ v) / (math.sqrt(float(u @ u)) * math.sqrt(float(v @ v)))


@settings(max_examples=30, deadline=None)
@given(counts, counts, seeds)
def test_video_loss_is_the_mean_cross_entropy_of_clamped_probabilities(videos, classes, seed):
    prob = random(seed, videos, classes).abs()  # a third of them above one
    label = random(seed + 1, videos, classes).sigmoid()
    expected = mean(
        [
            cross_entropy(min(max(float(prob[b, k]), 1e-7), 1 - 1e-7), float(label[b, k]))
            for b in range(videos)
            for k in range(classes)
        ]
    )
    assert float(video_loss(prob, label)) == pytest.approx(expected, rel=1e-9)


def test_video_loss_is_that_of_pytorch():
    prob, label = random(0, 4, 6).sigmoid(), random(1, 4, 6).sigmoid()
    torch.testing.assert_close(video_loss(prob, label), F.binary_cross_entropy(prob, label), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="different to the input size"):
        video_loss(prob, label[:1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("value", "label"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (1.7, 0.0), (1.7, 1.0)])
def test_video_loss_at_and_beyond_the_bounds_is_finite_in_every_precision(dtype, value, label):
    prob = torch.full((2, 3), value, dtype=dtype, requires_grad=True)
    loss = video_loss(prob, torch.full((2, 3), label, dtype=dtype))
    loss.backward()
    right = (value >= 1) == (label == 1)
    expected = -math.log(1 - PROBABILITY_MARGIN) if right else -math.log(PROBABILITY_MARGIN)
    # in single precision 1 - 1e-7 is 1 - 1.19e-7
    precision = {"rel": 1e-9} if dtype == torch.float64 else {"rel": 0.02, "abs": 1e-7}
    assert float(loss.detach()) == pytest.approx(expected, **precision)
    assert prob.grad.isfinite().all()


def test_video_loss_runs_in_mixed_precision():
    prob, label = random(0, 4, 6).sigmoid().float(), torch.ones(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = video_loss(prob, label)
        assert video_loss(prob.bfloat16(), label).dtype == torch.float32
    assert torch.equal(mixed, video_loss(prob, label))


def test_no_gradient_pushes_a_probability_above_one_further():
    prob = torch.tensor([[1.5, 0.5]], dtype=torch.float64, requires_grad=True)
    video_loss(prob, torch.ones(1, 2, dtype=torch.float64)).backward()
    assert prob.grad.tolist() == [[0.0, -1.0]]  # of 0.5: -1/p, averaged over two


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_video_loss_of_half_precision_is_computed_in_single_precision(dtype):
    prob, label = random(3, 5, 4).sigmoid().to(dtype), torch.ones(5, 4, dtype=dtype)
    loss = video_loss(prob, label)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(video_loss(prob.double(), label.double())), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(counts, counts, counts, seeds)
def test_segment_loss_is_the_mean_cross_entropy_of_sigmoids(videos, segments, classes, seed):
    logits = random(seed, videos, segments, classes)
    label = (random(seed + 1, videos, segments, classes) > 0).double()
    pairs = zip(logits.flatten().tolist(), label.flatten().tolist(), strict=True)
    expected = mean([cross_entropy(1 / (1 + math.exp(-x)), y) for x, y in pairs])
    assert float(segment_loss(logits, label)) == pytest.approx(expected, rel=1e-9)


def test_segment_loss_of_extreme_logits_is_their_distance_from_zero():
    logits = torch.tensor([[[800.0, -800.0]]], dtype=torch.float64)
    assert float(segment_loss(logits, torch.tensor([[[0.0, 1.0]]]))) == 800.0


@settings(max_examples=30, deadline=None)
@given(counts, counts, counts, seeds)
def test_reconstruction_is_half_the_sum_of_the_modalities_errors(videos, segments, width, seed):
    rebuilt, holistic = random(seed, videos, segments, 2, width), random(seed + 1, videos, segments, 2, width)
    of_audio, of_visual = (
        mean([(r - x) ** 2 for r, x in zip(rebuilt[:, :, m].ravel(), holistic[:, :, m].ravel(), strict=True)])
        for m in (0, 1)
    )
    assert float(reconstruction_loss(rebuilt, holistic)) == pytest.approx((of_audio + of_visual) / 2, rel=1e-9)


def test_reconstruction_teaches_the_holistic_features_too():
    rebuilt, holistic = random(0, 2, 3, 2, 4).requires_grad_(), random(1, 2, 3, 2, 4).requires_grad_()
    reconstruction_loss(rebuilt, holistic).backward()
    torch.testing.assert_close(holistic.grad, -rebuilt.grad)
    assert holistic.grad.any()


@settings(max_examples=30, deadline=None)
@given(counts, counts, counts, st.integers(2, 5), seeds)
def test_orthogonality_is_the_mean_cosine_with_the_background(videos, segments, classes, width, seed):
    events = random(seed, videos, segments, 2, classes, width)
    background = random(seed + 1, videos, segments, 2, width)
    places = [(b, t) for b in range(videos) for t in range(segments)]
    per_class = [
        mean([cosine(events[b, t, m, k], background[b, t, m]) for b, t in places for k in range(classes)])
        for m in (0, 1)
    ]
    class_mean = mean([cosine(events[b, t, 1].mean(dim=0), background[b, t, 1]) for b, t in places])
    assert float(orthogonality_loss(events, background, "per_class")) == pytest.approx(sum(per_class), abs=1e-9)
    assert float(orthogonality_loss(events, background)) == pytest.approx(per_class[0] + class_mean, abs=1e-9)


def test_orthogonality_is_zero_for_orthogonal_and_two_for_parallel_features():
    background = torch.eye(4, dtype=torch.float64)[:1].expand(2, 3, 2, 4)
    orthogonal = torch.eye(4, dtype=torch.float64)[1:3].expand(2, 3, 2, 2, 4)
    parallel = 5 * background.unsqueeze(-2).expand(2, 3, 2, 2, 4)
    assert float(orthogonality_loss(orthogonal, background)) == 0.0
    assert float(orthogonality_loss(parallel, background)) == pytest.approx(2.0)
    assert float(orthogonality_loss(torch.zeros_like(parallel), background)) == 0.0  # all features switched off


@settings(max_examples=30, deadline=None)
@given(counts, counts, counts, st.sets(st.sampled_from(["aa", "av", "va", "vv"]), min_size=1), seeds)
def test_cooccurrence_compares_each_map_that_exists_with_its_labels(videos, segments, classes, names, seed):
    maps = {name: random(seed + i, videos, segments, classes, classes) for i, name in enumerate(sorted(names))}
    label = (random(seed + 9, videos, segments, 2, classes) > 0).double()
    expected = 0.0
    for name, cooccurrence in maps.items():
        query, key = ("av".index(letter) for letter in name)
        expected += mean(
            [
                (float(cooccurrence[b, t, i, j]) - float(label[b, t, query, i] * label[b, t, key, j])) ** 2
                for b in range(videos)
                for t in range(segments)
                for i in range(classes)
                for j in range(classes)
            ]
        )
    assert float(cooccurrence_loss(maps, *label.unbind(dim=2))) == pytest.approx(expected, rel=1e-9)


def test_cooccurrence_has_audio_rows_in_av_and_visual_rows_in_va():
    label = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    label[..., 0, 0] = 1  # class 0 is heard
    label[..., 1, 2] = 1  # class 2 is seen
    heard_by_seen = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    heard_by_seen[..., 0, 2] = 1
    assert float(cooccurrence_loss({"av": heard_by_seen}, *label.unbind(dim=2))) == 0.0
    assert float(cooccurrence_loss({"va": heard_by_seen.mT}, *label.unbind(dim=2))) == 0.0
    assert float(cooccurrence_loss({"va": heard_by_seen}, *label.unbind(dim=2))) == pytest.approx(2 / 9)
    on_diagonal = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)).view(1, 1, 3, 3)
    assert float(cooccurrence_loss({"aa": on_diagonal}, *label.unbind(dim=2))) == 0.0
