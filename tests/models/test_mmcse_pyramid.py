"""MM-CSE on MM-Pyramid's encoder: both parts are used as they are, in the order that the module states."""

import pytest
import torch

from golden_hybrids import SMALL, seeded, small_batch
from golden_zoo import small, small_videos
from mmcse.models import MMCSE, MMCSEPyramid, count_parameters
from mmcse.models.mmpyramid import PyramidEncoder
from mmcse.objectives import MMCSEObjective

SIZES = {"class_dim": 4, "num_heads": 2, "num_layers": 1, "feedforward_dim": 6}


def test_it_is_mmcse_on_encoded_features_that_rebuilds_those_of_the_front_end():
    network, batch = small(MMCSEPyramid, 5, 3, num_levels=2, **SIZES), small_videos(5, 3)
    bare = small(MMCSE, 5, 3, **SIZES)
    own = network.state_dict()
    bare.load_state_dict({name: own[name] for name in bare.state_dict()})
    out = network(batch.audio, batch.visual, batch.motion)
    projected = network.front_end(batch.audio, batch.visual, batch.motion)
    expected = bare.parse(*network.encoder(*projected))
    assert torch.equal(out.segment_logits, expected.segment_logits)
    assert torch.equal(out.reconstruction, expected.reconstruction)
    assert torch.equal(out.holistic, torch.stack(projected, dim=2))
    assert not torch.allclose(out.holistic, expected.holistic)


def test_numbers_of_a_small_network():
    """Our own: there is nothing to compare with. Loss, norm of its gradient, sums of probabilities."""
    network = seeded(MMCSEPyramid(**SMALL | SIZES | {"num_layers": 2, "num_levels": 2}))
    batch = small_batch()
    out = network(batch.audio, batch.visual, batch.motion)
    loss = MMCSEObjective()(out, batch)["total"]
    loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    found = [float(x.detach()) for x in (loss, norm, out.segment_prob.sum(), out.video_prob.sum())]
    assert found == pytest.approx([529.12553347729, 10479.5043011422, 764.87304143331, 38.49009130497], rel=1e-9)


def test_without_what_only_losses_need_it_predicts_the_same():
    network, batch = small(MMCSEPyramid, 5, 3, num_levels=2, **SIZES).eval(), small_videos(5, 3)
    bare, full = (network(batch.audio, batch.visual, batch.motion, auxiliary=wanted) for wanted in (False, True))
    assert torch.equal(bare.segment_logits, full.segment_logits)
    assert bare.holistic is None


def test_its_parameters_are_those_of_both():
    network = small(MMCSEPyramid, 5, 3, num_levels=3, **SIZES)
    both = sum(count_parameters(small(MMCSE, 5, 3, **SIZES)))
    both += sum(parameter.numel() for parameter in PyramidEncoder(8, 3, 2, 6).parameters())
    assert sum(count_parameters(network)) == both


def test_training_reaches_every_parameter():
    torch.manual_seed(0)
    network, batch = small(MMCSEPyramid, 6, 3, num_levels=2, **SIZES).train(), small_videos(6, 3, count=8)
    MMCSEObjective()(network(batch.audio, batch.visual, batch.motion), batch)["total"].backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
