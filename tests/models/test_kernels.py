"""Operators in C++: what PyTorch's operators give, dropout of its rate, and going on without a compiler."""

import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import tiny
from mmcse.configuration import compose_config
from mmcse.evaluate import evaluate
from mmcse.models import MMCSE, kernels, merged
from mmcse.models.feedforward import FeedForward
from mmcse.train import train

TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2**-7}
"""Of the largest number there is: results are rounded once, to their type."""
sizes = st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.integers(1, 3), st.sampled_from([1, 3, 8, 16, 17])
"""B, T, K, H and e: less than a vector, and more."""


def gradients(outs, inputs, seed=0):
    """By the inputs, of a sum of the outputs with weights by chance."""
    generator = torch.Generator().manual_seed(seed)
    total = sum((out.double() * torch.randn(out.shape, generator=generator)).sum() for out in outs)
    return torch.autograd.grad(total, inputs)


def assert_equal(ours, theirs, dtype=torch.float64):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine.double(), other.double(), rtol=0, atol=TOLERANCES[dtype] * scale)


def compared(ours, theirs, inputs, dtype):
    """Both ways give the same results and gradients, the other one in double precision of the same inputs."""
    mine = [x.to(dtype).requires_grad_() for x in inputs]
    others = [x.detach().double().requires_grad_() for x in mine]
    my_outs, outs = ours(*mine), theirs(*others)
    assert all(out.dtype == (torch.float32 if out.ndim == 6 and dtype == torch.bfloat16 else dtype) for out in my_outs)
    assert_equal(my_outs, outs, dtype)
    assert_equal(gradients(my_outs, mine), gradients(outs, others), dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@given(*sizes)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_attention_and_its_gradient_are_those_of_pytorch_s_operators(kernels_in_use, dtype, B, T, K, H, e):
    torch.manual_seed(B + 10 * T + 100 * K)
    ways = (lambda x, attend=attend: attend(x, H * e, H, 0.0, True) for attend in (kernels.attend, merged.attend))
    compared(*ways, [2 * torch.randn(B, T, 2, K, 8 * H * e)], dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@given(*sizes)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fusion_and_its_gradient_are_those_of_pytorch_s_operators(kernels_in_use, dtype, B, T, K, H, e):
    torch.manual_seed(B + 10 * T + 100 * K)
    dim = H * e
    product = torch.randn(B, T, 2, K, 8 * dim)
    segment_1, segment_2 = (x + 0.3 * x.sign() for x in torch.randn(2, B, T, 2, K, dim))  # near 0 a gradient is noise
    joint_a = segment_2 - product[..., 6 * dim : 7 * dim]
    videos = torch.rand(2, B, 1, 2, K, dim).add(0.1).unbind()
    shares = torch.randn(2, B, 1, 2, K, dim).unbind()

    def by(fuse):
        def fused(product, segment_1, joint_a, video_1, video_2, share_1, share_2):
            joint_q, carried = product[..., 6 * dim :].split(dim, dim=-1)
            return [fuse(carried, segment_1, joint_q, joint_a, [video_1, video_2], [share_1, share_2])]

        return fused

    compared(by(kernels.fuse), by(merged.fuse), [product, segment_1, joint_a, *videos, *shares], dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_means_over_time_are_those_of_pytorch_s_operators(kernels_in_use, dtype):
    ways = (lambda x, mean=mean: [mean(x[..., 5:10])] for mean in (kernels.relu_mean, merged.relu_mean))
    compared(*ways, [torch.randn(2, 3, 2, 4, 3 * 5)], dtype)


def parsed(network, features, **options):
    out = network(*features, **options)
    maps = list((out.cooccurrence or {}).values())
    return [out.segment_logits, out.video_prob, *maps]


@pytest.mark.parametrize("training", [True, False])
def test_a_network_computes_the_same_with_them(kernels_in_use, training):
    torch.manual_seed(0)
    sizes = {"num_classes": 6, "num_layers": 2, "hidden_dim": 24, "class_dim": 12, "num_heads": 3}
    network = MMCSE(**sizes, feedforward_dim=20, dropout=0.0)
    network.double().train(training)
    features = [torch.randn(3, 10, width).double() for width in (768, 768, 512)]
    parameters = list(network.layers.parameters())
    found = parsed(network, features)
    of_found = gradients(found, parameters)
    with torch.no_grad():
        without_gradient = parsed(network, features)
    kernels.use(False)
    expected = parsed(network, features)
    assert_equal(found, expected)
    assert_equal(without_gradient, expected)
    assert_equal(of_found, gradients(expected, parameters))


def test_attention_weights_are_dropped_at_the_rate_and_the_gradient_knows_which(kernels_in_use):
    rate, dim, H = 0.3, 16, 1
    product = torch.randn(40, 10, 2, 25, 8 * dim, dtype=torch.float64)
    product[..., : 2 * dim] = 0  # equal scores: a weight is kept, as 1 / 25, or 0
    torch.manual_seed(3)
    *_, maps = kernels.attend(product, dim, H, rate, True)
    kept = maps[0] * 25  # intra
    assert torch.allclose(kept, kept.round())
    deviation = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert abs(float(kept.mean()) - (1 - rate)) < 4 * deviation
    for axis, distance in [(axis, 1) for axis in range(kept.ndim)] + [(-1, 8), (-1, 16)]:  # independent of each other
        size = kept.shape[axis] - distance
        a, b = kept.narrow(axis, 0, size), kept.narrow(axis, distance, size)
        together = float((a * b).mean())
        assert abs(together - (1 - rate) ** 2) < 6 * (0.25 / a.numel()) ** 0.5
    product = torch.randn(1, 2, 2, 4, 8 * dim, dtype=torch.float64, requires_grad=True)

    def summed(product):
        torch.manual_seed(5)  # the same elements are dropped
        return torch.stack([out.sin().sum() for out in kernels.attend(product, dim, H, rate, True)]).sum()

    [gradient] = torch.autograd.grad(summed(product), product)
    direction = torch.randn_like(product)
    with torch.no_grad():
        slope = (summed(product + 1e-6 * direction) - summed(product - 1e-6 * direction)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_hidden_units_are_cut_and_dropped(kernels_in_use, dtype):
    x = torch.randn(300, 1001).to(dtype)
    torch.manual_seed(1)
    out = kernels.relu_dropped(x, 0.2)
    kept = out != 0
    assert torch.equal(out[kept], x[kept])
    assert not kept[x <= 0].any()
    positive = int((x > 0).sum())
    assert abs(int(kept.sum()) / positive - 0.8) < 4 * (0.16 / positive) ** 0.5
    torch.manual_seed(1)
    assert torch.equal(kernels.relu_dropped(x, 0.2), out)
    assert not torch.equal(kernels.relu_dropped(x, 0.2), out)


def test_the_gradient_of_a_feed_forward_part_knows_what_was_dropped(kernels_in_use):
    part = FeedForward(6, 40, 0.5).double()
    x = torch.randn(30, 6, dtype=torch.float64, requires_grad=True)
    hidden = []
    part[0].register_forward_hook(lambda module, args, out: hidden.append(out))
    torch.manual_seed(2)
    out = part(x)
    torch.manual_seed(2)
    used = kernels.relu_dropped(hidden[0].detach(), 0.5) != 0
    weight = (part[3].weight * 2) @ (used[:, :, None] * part[0].weight)  # (30, 6, 6)
    expected = (weight @ x[:, :, None]).sum(dim=(1, 2))
    assert_equal(gradients([out.sum(dim=-1)], x), gradients([expected], x))


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_processors_of_shorter_vectors_compute_the_same(kernels_in_use, capability):
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "operators or dropped"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_threads_change_nothing(kernels_in_use):
    product, threads, outs = torch.randn(4, 10, 2, 25, 8 * 32), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.manual_seed(0)
            outs.append(kernels.attend(product, 32, 2, 0.1, True))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(kernels_in_use, bad):
    product = torch.randn(1, 2, 2, 5, 8 * 16)
    product[0, 0, 0, 2, 3] = bad  # of a query
    intra, *_ = kernels.attend(product, 16, 1, 0.0, False)
    assert not intra[0, 0, 0, 2].isfinite().any()
    assert intra[0, 1].isfinite().all()


def test_training_keeps_no_attention_weights(kernels_in_use):
    K, H = 40, 4
    network, kept = MMCSE(num_classes=K, num_layers=1, hidden_dim=8, class_dim=16, num_heads=H, feedforward_dim=8), []
    features = [torch.randn(2, 10, width) for width in (768, 768, 512)]

    def largest():
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            network(*features)
        return max(kept)

    weights = 2 * 10 * 2 * 2 * H * K * K  # of both modes
    assert largest() < weights / 2
    kernels.use(False)
    assert largest() >= weights


def test_what_attention_multiplies_is_counted(kernels_in_use):
    def counted(attend):
        product = torch.randn(2, 3, 2, 5, 8 * 16, requires_grad=True)
        with FlopCounterMode(display=False) as forward:
            gathered, *_ = attend(product, 16, 4, 0.0, False)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(gathered.sum(), product)
        return forward.get_total_flops(), backward.get_total_flops()

    (mine, my_gradient), (theirs, their_gradient) = counted(kernels.attend), counted(merged.attend)
    assert mine == theirs > 0
    assert my_gradient == their_gradient * 5 / 4  # scores are computed anew


def test_they_serve_no_other_device_or_type(kernels_in_use):
    assert kernels.serve(torch.ones(1))
    assert not kernels.serve(torch.ones(1, dtype=torch.float16))
    assert not kernels.serve(torch.ones(1, device="meta"))


@pytest.fixture
def forgotten():
    """What was built is not known."""
    kernels._build.cache_clear()
    yield
    kernels._build.cache_clear()
    kernels.use(False)


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("Ninja is required to load C++ extensions (pip install ninja to get it)", "Ninja is required"),
        ("Error building\n[1/2] c++ -O3\nkernels.cpp:3:5: error: no such thing\n", "built: kernels.cpp:3:5: error: no"),
    ],
)
def test_where_they_cannot_be_built_training_goes_on(forgotten, monkeypatch, caplog, printed, said):
    def fail(*args, **kwargs):
        raise RuntimeError(printed)

    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    monkeypatch.setattr("torch.utils.cpp_extension.load", fail)
    with caplog.at_level(logging.WARNING):
        assert not kernels.use(True)
    assert said in caplog.text
    assert not kernels.serve(torch.ones(1))


def test_without_a_compiler_that_is_said(forgotten, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not kernels.use(True)
    assert "there is no C++ compiler (no-such-compiler)" in caplog.text


def test_a_run_says_that_it_went_without_them(forgotten, monkeypatch, smoke_bank, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert train(tiny.config(smoke_bank, tmp_path, "kernels=true")).record["kernels"] is False
    assert "kernels" not in train(tiny.config(smoke_bank, tmp_path / "other")).record


def test_ninja_is_found_though_the_environment_is_not_activated(forgotten, monkeypatch, tmp_path):
    found = []
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *args, **kwargs: found.append(shutil.which("ninja")))
    assert kernels.use(True)
    assert found == [str(Path(sysconfig.get_path("scripts")) / "ninja")]
    assert os.environ["PATH"] == str(tmp_path)


def test_a_run_with_them_is_the_same_run_and_its_checkpoint_needs_none(
    kernels_in_use, smoke_bank, tmp_path, monkeypatch
):
    folder, record = train(tiny.config(smoke_bank, tmp_path, "kernels=true"))
    assert (record["status"], record["kernels"]) == ("ok", True)
    assert kernels.serve(torch.ones(1))
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "use", None)  # a run that is found finished does not even build them
        for on in ("true", "false"):
            assert train(tiny.config(smoke_bank, tmp_path, f"kernels={on}")).folder == folder
    train(tiny.config(smoke_bank, tmp_path / "without"))
    assert not kernels.serve(torch.ones(1))
    arguments = [f"checkpoint={folder / 'checkpoints' / 'best.ckpt'}", "trainer.accelerator=cpu"]
    with_them, without = (evaluate(compose_config("eval", [*arguments, f"kernels={on}"])) for on in ("true", "false"))
    assert with_them["scores"] == pytest.approx(without["scores"], abs=0.5)  # a rounding may turn one decision
    assert with_them["scores"] == record["scores"]["test"]


def test_a_lock_that_a_killed_build_left_is_not_waited_for(kernels_in_use):
    (kernels._folder() / "lock").touch()
    done = subprocess.run(
        [sys.executable, "-c", "from mmcse.models import kernels; print(kernels.use(True))"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
