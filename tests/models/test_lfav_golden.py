"""LFAV against numbers of the authors' implementation, applied to LLP's features."""

import numpy as np
import pytest
import torch

from golden_hybrids import (
    SMALL,
    assert_golden,
    fingerprint,
    losses_and_norms,
    small_batch,
    zoo_numbers,
)
from golden_zoo import assert_states_fit, videos, with_weights
from literal_lfav import LiteralLFAV
from mmcse.models import LFAV, count_parameters
from mmcse.models.reference import to_reference_state, unused_reference_names
from mmcse.objectives import LFAVObjective


@pytest.fixture(scope="module")
def network(shared):
    return with_weights(LFAV(), shared, "lfav", "lfav")


def test_forward(shared, network):
    batch = videos()
    out = network(batch.audio, batch.visual, batch.motion)
    ours = {"a_prob": out.audio_prob, "v_prob": out.visual_prob, "frame_prob": out.segment_prob}
    ours["s1_frame_prob"] = out.first.logits.sigmoid()
    position = torch.arange(10.0, dtype=torch.float64)[:, None, None]
    mean_position = (position * out.active).sum(dim=1) / out.active.sum(dim=1)
    for index, (m, modality) in enumerate((("a", "audio"), ("v", "visual"))):
        exists = out.events.exists[:, index]
        ours[f"s1_{m}_prob"] = out.first.prob[:, index]
        ours[f"s3_{m}_prob"] = out.events.reweighted_prob[:, index]
        ours[f"{m}_event_prob_s2"] = out.events.prob[:, index][exists]
        ours[f"{m}_event_prob_s3"] = out.events.related_prob[:, index][exists]
        ours[f"{m}_event_index"] = torch.column_stack((exists.nonzero(), mean_position[:, index][exists]))
        ours[f"s1_{modality}"] = out.first_features[:, :, index]
        ours[f"s2_{modality}"] = out.features[:, :, index]
    numbers = {n: x for n, x in zoo_numbers(shared, "lfav").items() if "loss" not in n and "grad" not in n}
    assert_golden(ours, numbers, "lfav")


def test_losses_and_gradients(shared, network):
    batch, ours = videos(), {}
    out = network(batch.audio, batch.visual, batch.motion)
    for labels, suffix in (("modality", "_modality_labels"), ("weak", "")):
        objective = LFAVObjective(labels=labels)
        objective.on_train_batch_start(epoch=5, batch=0, num_batches=1)  # the sixth
        ours[f"loss_total_warm_up{suffix}"] = objective(out, batch)["total"]
        objective.on_train_batch_start(epoch=6, batch=0, num_batches=1)
        losses = objective(out, batch)
        ours |= {f"loss_{name}{suffix}": loss for name, loss in losses.items()}
    ours |= losses_and_norms(network, losses)
    numbers = {n: x for n, x in zoo_numbers(shared, "lfav").items() if "loss" in n or "grad" in n}
    assert len(numbers) == 18
    assert_golden(ours, numbers, "lfav")


def test_states_of_the_authors(shared):
    with torch.device("meta"):
        assert_states_fit(LFAV(), shared, "lfav", "lfav")
        assert_states_fit(LFAV(num_segments=40, num_levels=6), shared, "lfav", "lfav_t40")
        assert_states_fit(LFAV(), shared, "lfav", "lfav_few")


def test_lfavs_own_network_has_the_authors_size():
    """35 classes, frames of ResNet-18, 200 segments and six levels, with what the authors' stage 3 never uses."""
    with torch.device("meta"):
        network = LFAV(visual_dim=512, num_classes=35, num_segments=200, num_levels=6)
        unused = sum(int(np.prod(shape)) for shape in unused_reference_names(network).values())
        assert sum(count_parameters(network)) + unused == 22_782_639


def test_seeded_weights_at_40_segments_give_what_the_literal_implementation_gives(shared):
    network = with_weights(LFAV(num_segments=40, num_levels=6), shared, "lfav", "lfav_t40")
    batch = videos(40)
    out = network(batch.audio, batch.visual, batch.motion)
    oracle = LiteralLFAV(to_reference_state(network), 6, 4, 4, 0.5, (1,) * 6)
    video = oracle(batch.audio[0], batch.visual[0], batch.motion[0])
    torch.testing.assert_close(out.segment_prob[0].transpose(0, 1), video.segments, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(out.events.reweighted_prob[0], video.third, rtol=1e-9, atol=1e-12)
    assert 0 < video.exists.double().mean() < 1


@pytest.mark.parametrize(
    ("threshold", "numbers"),
    [
        (0.5, [5.92752961915, 8.39447782757, 787.96007573776, 44.606556356]),
        (0.8, [5.89391241013, 8.19777074139, 787.4496440075, 44.4918799079]),
    ],
)
def test_numbers_of_a_small_network(threshold, numbers):
    """Kept since parity was shown: for machines without the reference numbers."""
    sizes = {name: size for name, size in SMALL.items() if name != "feedforward_dim"}
    assert fingerprint(LFAV(**sizes, threshold=threshold), LFAVObjective(), small_batch()) == pytest.approx(
        numbers, rel=1e-9
    )
