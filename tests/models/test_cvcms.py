"""CVCMS's class tokens, mixing of videos and contrast, at any size, against loops."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.batch import Batch
from mmcse.errors import UserError
from mmcse.models import CVCMS, HAN
from mmcse.models.reference import to_reference_state, unused_reference_names
from mmcse.objectives import CVCMSObjective
from mmcse.objectives.classification import smoothed
from mmcse.objectives.cvcms import (
    MixedBatch,
    cross_video_loss,
    label_guided_pooling,
    mix_videos,
    random_partners,
    shared_events,
)

SMALL = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
SMALL |= {"num_layers": 2, "num_heads": 2, "feedforward_dim": 6, "class_dim": 4}
seeds = st.integers(0, 2**31)


def videos(count: int = 4, segments: int = 7, classes: int = 3) -> Batch:
    labels = [torch.randint(2, (count, classes)).double() for _ in range(3)]
    segment_labels = [torch.randint(2, (count, segments, classes)).double() for _ in range(2)]
    return Batch(
        audio=torch.randn(count, segments, 4, dtype=torch.float64),
        visual=torch.randn(count, segments, 5, dtype=torch.float64),
        motion=torch.randn(count, segments, 3, dtype=torch.float64),
        weak=labels[0],
        weak_audio=labels[1],
        weak_visual=labels[2],
        pseudo_audio=segment_labels[0],
        pseudo_visual=segment_labels[1],
        ids=tuple(f"video {i}" for i in range(count)),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 5), seeds)
def test_videos_and_segments_do_not_share_class_tokens(segments, classes, class_dim, seed):
    torch.manual_seed(seed)
    sizes = SMALL | {"num_segments": segments, "num_classes": classes, "class_dim": class_dim}
    network, batch = CVCMS(**sizes).double().eval(), videos(2, segments, classes)
    out = network(batch.audio, batch.visual, batch.motion)
    assert out.segment_logits.shape == (2, segments, 2, classes)
    one = network.event(out.encoded[1:, -1:])
    torch.testing.assert_close(out.segment_logits[1:, -1:], one)


def test_tokens_of_a_segment_are_chunks_of_one_projection():
    torch.manual_seed(0)
    network = CVCMS(**SMALL).double().eval()
    head, features = network.event, torch.randn(1, 1, 2, 8, dtype=torch.float64)
    audio = head.audio(features[0, 0, 0]).relu().view(3, 4)
    visual = head.visual(features[0, 0, 1]).relu().view(3, 4)
    layer = head.layers[0]
    expected = (
        head.audio_event(layer(audio[None], visual[None])[0]),
        head.visual_event(layer(visual[None], audio[None])[0]),
    )
    for m in range(2):
        torch.testing.assert_close(head(features)[0, 0, m], expected[m].squeeze(-1))


def test_without_class_tokens_it_is_han():
    torch.manual_seed(0)
    han_sizes = {name: value for name, value in SMALL.items() if name != "class_dim"}
    network, han = CVCMS(**SMALL, class_tokens=False).double().eval(), HAN(**han_sizes).double().eval()
    renamed = {n if n.startswith(("front", "layers")) else f"head.{n}": w for n, w in network.state_dict().items()}
    han.load_state_dict(renamed)
    batch = videos()
    expected = han(batch.audio, batch.visual, batch.motion)
    assert torch.equal(network(batch.audio, batch.visual, batch.motion).video_prob, expected.video_prob)


def test_an_authors_state_is_whole_with_either_head():
    """It holds the linear layer beside the class tokens, and does not use it."""
    both = [CVCMS(**SMALL, class_tokens=class_tokens) for class_tokens in (True, False)]
    used, unused = ([dict(of(network)) for network in both] for of in (to_reference_state, unused_reference_names))
    shapes = [
        {name: tuple(x.shape) for name, x in state.items()} | idle for state, idle in zip(used, unused, strict=True)
    ]
    assert shapes[0] == shapes[1]
    assert not any(state.keys() & idle.keys() for state, idle in zip(used, unused, strict=True))
    assert used[1].keys() - used[0].keys() == {"fc_prob.weight", "fc_prob.bias"}


def test_mixed_videos_have_the_sound_of_one_and_the_picture_of_another():
    batch, partners = videos(3), torch.tensor([2, 0, 1])
    mixed = mix_videos(batch, partners)
    assert (len(mixed), mixed.num_original) == (6, 3)
    for i in range(3):
        for name in ("audio", "weak_audio", "pseudo_audio"):
            assert torch.equal(getattr(mixed, name)[3 + i], getattr(batch, name)[i])
        for name in ("visual", "motion", "weak_visual", "pseudo_visual"):
            assert torch.equal(getattr(mixed, name)[3 + i], getattr(batch, name)[partners[i]])
            assert torch.equal(getattr(mixed, name)[i], getattr(batch, name)[i])
    assert torch.equal(mixed.weak[:3], batch.weak)
    assert torch.equal(mixed.weak[3:], mixed.weak_audio[3:].maximum(mixed.weak_visual[3:]))
    assert mixed.true_audio is None
    assert mixed.to(torch.float32).num_original == 3


def test_partners_are_uniform_over_the_others():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([random_partners(4, generator) for _ in range(3000)])
    for i in range(4):
        shares = torch.bincount(drawn[:, i], minlength=4) / 3000
        assert shares[i] == 0
        assert torch.cat((shares[:i], shares[i + 1 :])).sub(1 / 3).abs().max() < 0.05
    with pytest.raises(ValueError, match="no partner"):
        random_partners(1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), seeds)
def test_contrast_is_the_mean_over_rows_of_the_positives_log_shares(count, segments, classes, seed):
    torch.manual_seed(seed)
    features = torch.randn(2, count, segments, 3, dtype=torch.float64)
    scores = torch.randn(2, count, segments, classes, dtype=torch.float64)
    labels = torch.randint(2, (2, count, classes)).double()
    pooled = [label_guided_pooling(*of) for of in zip(features, scores, labels, strict=True)]
    for m in range(2):
        for i in range(count):
            logits = [sum(float(labels[m, i, k] * scores[m, i, t, k]) for k in range(classes)) for t in range(segments)]
            shares = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
            expected = sum(share * features[m, i, t] for t, share in enumerate(shares))
            torch.testing.assert_close(pooled[m][i], expected)
    similarities = F.normalize(pooled[0], dim=1) @ F.normalize(pooled[1], dim=1).T
    total = 0.0
    for i in range(count):
        positives = [j for j in range(count) if (labels[0, i] * labels[1, j]).any()]
        for j in positives:
            row = similarities[i].exp()
            total -= math.log(float(row[j] / row.sum())) / len(positives) / count
    found = cross_video_loss(similarities, shared_events(*labels))
    assert float(found) == pytest.approx(total, rel=1e-8, abs=1e-12)


def test_smoothed_labels_pair_everything():
    audio = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    visual = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert shared_events(audio, visual).tolist() == [[False, True], [False, False]]
    assert shared_events(audio, smoothed(visual, 0.1)).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_contrast_is_a_number_in_half_precision_where_a_video_shares_no_event(dtype):
    similarities = torch.linspace(-1, 1, 9).view(3, 3).to(dtype).requires_grad_()
    positives = torch.tensor([[True, True, False], [False, False, False], [False, False, True]])
    loss = cross_video_loss(similarities, positives)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.detach(), cross_video_loss(similarities.detach().float(), positives))
    assert similarities.grad.isfinite().all()
    assert not similarities.grad[1].any()


def test_the_objective_changes_after_the_initial_epochs():
    torch.manual_seed(0)
    network, batch = CVCMS(**SMALL).double().train(), videos(6)
    objective = CVCMSObjective(initial_epochs=2)
    for epoch in (0, 1):
        objective.on_train_batch_start(epoch, 0, 3)
        assert objective.augment(batch) is batch
        losses = objective(network(batch.audio, batch.visual, batch.motion), batch)
        assert set(losses) == {"total", "audio", "visual", "video"}
    objective.on_train_batch_start(2, 0, 3)
    mixed = objective.augment(batch)
    assert isinstance(mixed, MixedBatch)
    out = network(mixed.audio, mixed.visual, mixed.motion)
    losses = objective(out, mixed)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    union = batch.weak_audio.maximum(batch.weak_visual)
    prob = out.video_prob[:6].clamp(1e-7, 1 - 1e-7)
    torch.testing.assert_close(losses["video"], F.binary_cross_entropy(prob, union))
    expected = losses["audio"] + losses["visual"] + losses["video"] + 0.85 * losses["contrast"]
    torch.testing.assert_close(losses["total"], expected)
    assert CVCMSObjective(mixing=False).augment(batch) is batch
    assert CVCMSObjective(contrast=0).augment(batch) is batch


def test_mistakes_are_named():
    batch = videos()
    han = HAN(audio_dim=4, visual_dim=5, motion_dim=3, num_classes=3, num_segments=7, hidden_dim=8).double()
    with pytest.raises(UserError, match=r"model=cvcms"):
        CVCMSObjective()(han(batch.audio, batch.visual, batch.motion), batch)
    with pytest.raises(UserError, match=re.escape("visual_smoothing is -1")):
        CVCMSObjective(visual_smoothing=-1)
