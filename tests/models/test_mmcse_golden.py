"""MM-CSE against numbers of the authors' implementation: outputs, maps, losses, gradients, a trajectory."""

import numpy as np
import pytest
import torch

from golden import SALT, batch, reference_state
from mmcse.models import MMCSE, count_parameters
from mmcse.models.reference import load_reference_state, to_reference_state
from mmcse.objectives import MMCSEObjective

CASE = "mmcse.clip_clap_map"


@pytest.fixture(scope="module")
def numbers(shared):
    with np.load(shared / "golden" / "networks.npz") as file:
        return dict(file)


@pytest.fixture(params=["operators of PyTorch", "operators in C++"])
def network(shared, request):
    net = MMCSE().double().eval()
    load_reference_state(net, reference_state(shared / "golden", "mmcse_clip_clap"))
    if request.param == "operators in C++":
        request.getfixturevalue("kernels_in_use")
    return net


@pytest.fixture
def clap_batch():
    return batch((3, 64, 768), (3, 10, 768), (3, 10, 512))


def close(actual, expected):
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=0, atol=1e-9)


def test_forward_and_maps(network, clap_batch, numbers):
    out = network(clap_batch.audio, clap_batch.visual, clap_batch.motion)
    close(out.video_prob, numbers[f"{CASE}.global_prob"])
    close(out.audio_prob, numbers[f"{CASE}.a_prob"])
    close(out.visual_prob, numbers[f"{CASE}.v_prob"])
    close(out.segment_logits, numbers[f"{CASE}.frame_logits"])
    close(out.segment_prob, numbers[f"{CASE}.frame_prob"])
    assert sorted(out.cooccurrence) == ["aa", "av", "va", "vv"]
    for name, cooccurrence in out.cooccurrence.items():
        close(cooccurrence, numbers[f"{CASE}.map_{name}"])


def test_without_auxiliary_outputs_the_predictions_are_the_same(network, clap_batch, numbers):
    with torch.no_grad():
        out = network(clap_batch.audio, clap_batch.visual, clap_batch.motion, auxiliary=False)
    close(out.segment_logits, numbers[f"{CASE}.frame_logits"])
    close(out.video_prob, numbers[f"{CASE}.global_prob"])
    assert out.cooccurrence is out.reconstruction is out.holistic is out.event_features is None


def test_losses_and_gradients(network, clap_batch, numbers):
    losses = MMCSEObjective()(network(clap_batch.audio, clap_batch.visual, clap_batch.motion), clap_batch)
    for name, loss in losses.items():
        close(loss, numbers[f"{CASE}.loss_{name}"])
    assert len(losses) == 7

    losses["total"].backward()
    gradients = to_reference_state(network, {n: p.grad for n, p in network.named_parameters()})
    modules = {name.split(".", 1)[0] for name in gradients}
    assert {f"{CASE}.grad_norm.{m}" for m in modules} == {n for n in numbers if n.startswith(f"{CASE}.grad_norm.")}
    for module in modules:
        norm = torch.cat([g.flatten() for n, g in gradients.items() if n.split(".", 1)[0] == module]).norm()
        assert float(norm) == pytest.approx(float(numbers[f"{CASE}.grad_norm.{module}"]), rel=2e-6), (
            module
        )  # stored in float32
    total = torch.cat([g.flatten() for g in gradients.values()]).norm()
    assert float(total) == pytest.approx(float(numbers[f"{CASE}.grad_norm_total"]), rel=2e-6)


@pytest.mark.slow
def test_twelve_optimiser_steps(network, numbers):
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=1e-3, betas=(0.5, 0.999), eps=1e-8)
    losses, norms = [], []
    for step in range(12):
        step_batch = batch((8, 10, 768), (8, 10, 768), (8, 10, 512), suffix=str(step), label_salt=SALT * 1000 + step)
        optimizer.zero_grad()
        loss = MMCSEObjective()(network(step_batch.audio, step_batch.visual, step_batch.motion), step_batch)["total"]
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)))
        optimizer.step()
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(losses, numbers["trajectory.loss"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(norms, numbers["trajectory.grad_norm"], rtol=1e-9)


def test_parameters_of_the_paper():
    """Table 5's 4.49 M: the reference counts 512 more, in two norms that its forward pass never uses."""
    inference, training_only = count_parameters(MMCSE(audio_dim=128, visual_dim=2048))
    assert inference == 4_488_653 - 512
    assert training_only == 2 * (26 * 128 * 256 + 256 + 256 * 256 + 256)
