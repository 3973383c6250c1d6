"""DHHN against numbers of the authors' implementation: the parser, its guides, both modes of training, the pair."""

import math

import pytest
import torch
from torch import Tensor

from golden_hybrids import (
    SMALL,
    assert_golden,
    fingerprint,
    gradient_norms,
    predictions,
    small_batch,
    zoo_numbers,
)
from golden_zoo import assert_states_fit, parameter, shapes, videos, with_weights, without_refinement
from mmcse.models import DHHN, DHHNPair, count_parameters
from mmcse.models.reference import to_reference_state, unused_reference_names
from mmcse.objectives import DHHNObjective


@pytest.fixture(scope="module")
def network(shared):
    network = DHHN()
    for case, module in parts(network).items():
        with_weights(module, shared, "dhhn", case, prefix=f"{case}.")
    return network.eval()


def parts(network):
    return {"hcmn": network.parser, "guide_audio": network.audio_guide, "guide_visual": network.visual_guide}


def test_forward(shared, network):
    batch = videos()
    out = network(batch.audio, batch.visual, batch.motion)
    ours = predictions(out)
    for name, guide in {"guide_audio": out.audio_guide, "guide_visual": out.visual_guide}.items():
        ours |= {name: guide.prob, f"{name}_frame_prob": guide.segment_logits.sigmoid()}
    numbers = {name: x for name, x in zoo_numbers(shared, "dhhn").items() if name.count(".") == 1}
    assert_golden(ours, numbers, "dhhn")


@pytest.mark.parametrize(("mode", "labels"), [("train", "weak"), ("retrain", "refined")])
def test_losses_and_gradients(shared, network, mode, labels):
    batch = videos() if labels == "refined" else without_refinement(videos())
    network.zero_grad()
    losses = DHHNObjective(labels)(network(batch.audio, batch.visual, batch.motion), batch)
    of_parser: list[Tensor] = [x for name, x in losses.items() if name != "total" and not name.startswith("guide")]
    ours = {"loss_main": sum(of_parser)} | {f"loss_{name}": loss for name, loss in losses.items()}
    losses["total"].backward()
    for case, module in parts(network).items():
        ours |= {f"{case}.{name}": norm for name, norm in gradient_norms(module).items()}
    assert_golden(ours, zoo_numbers(shared, "dhhn"), f"dhhn.{mode}")


def test_the_pair_that_is_tested(shared):
    network, batch = with_weights(DHHNPair(), shared, "dhhn", "final"), videos()
    features = batch.audio, batch.visual, batch.motion
    of_audio, of_visual = network.audio_parser(*features), network.visual_parser(*features)
    ours = {"a_prob": of_audio.audio_prob, "a_frame_prob": of_audio.segment_prob}
    ours |= {"v_prob": of_visual.visual_prob, "v_frame_prob": of_visual.segment_prob}
    assert_golden(ours, zoo_numbers(shared, "dhhn"), "dhhn.final")
    out = network(*features)
    assert torch.equal(out.audio_prob, of_audio.audio_prob)
    assert torch.equal(out.visual_prob, of_visual.visual_prob)
    assert torch.equal(out.segment_prob[:, :, 0], of_audio.segment_prob[:, :, 0])
    assert torch.equal(out.segment_prob[:, :, 1], of_visual.segment_prob[:, :, 1])


def test_states_of_the_authors(shared):
    with torch.device("meta"):
        network, pair = DHHN(), DHHNPair()
    for case, module in parts(network).items():
        assert_states_fit(module, shared, "dhhn", case)
    of_parser = to_reference_state(network.parser)
    assert of_parser.keys() == to_reference_state(network).keys()  # guides are not saved by the authors
    assert_states_fit(pair, shared, "dhhn", "final")


def test_what_is_read_of_the_authors_states_is_written_again(shared, network):
    networks = {f"{case}.": module for case, module in parts(network).items()}
    networks[""] = with_weights(DHHNPair(), shared, "dhhn", "final")
    for prefix, module in networks.items():
        theirs = shapes(shared, "dhhn", prefix.removesuffix(".") or "final")
        written = to_reference_state(module)
        assert written.keys() == theirs.keys() - unused_reference_names(module).keys()
        for name, tensor in written.items():
            assert torch.equal(tensor, parameter(prefix + name, theirs[name])), name


def test_sizes_are_the_authors():
    with torch.device("meta"):
        network, pair = DHHN(), DHHNPair()
    unused = 2_048  # two norms that the reference holds and never applies
    found = {case: sum(count_parameters(module)) for case, module in parts(network).items()}
    assert found == {"hcmn": 9_296_459 - unused, "guide_audio": 1_669_682, "guide_visual": 5_018_162}
    assert count_parameters(network) == (9_296_459 - unused, 1_669_682 + 5_018_162)
    assert count_parameters(pair) == (18_592_918 - 2 * unused, 0)
    for module, times in ((network.parser, 1), (pair, 2)):
        assert sum(math.prod(shape) for shape in unused_reference_names(module).values()) == times * unused


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ("weak", [5.67083768708, 2.51153112176, 843.35601729391, 41.89459067376]),
        ("refined", [5.69553328079, 2.76992598374, 843.35601729391, 41.89459067376]),
    ],
)
def test_numbers_of_a_small_network(labels, numbers):
    """Kept since parity was shown: for machines without the reference numbers."""
    network = DHHN(**SMALL, num_heads=2, guide_heads=2)
    batch = small_batch() if labels == "refined" else without_refinement(small_batch())
    assert fingerprint(network, DHHNObjective(labels), batch) == pytest.approx(numbers, rel=1e-9)
