"""Our dropout does what PyTorch's does, from other random numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcse.errors import UserError
from mmcse.models.attention import Attention
from mmcse.models.dropout import Dropout, dropout
from mmcse.models.feedforward import FeedForward

RATES = [0.1, 0.25, 0.5, 0.9]


def kept(x, rate):
    """Whether an element of `dropout(ones)` was kept, and the one value that kept elements have."""
    out = dropout(torch.ones_like(x), rate)
    values = out[out != 0].unique()
    assert len(values) == 1
    return out != 0, values.item()


@pytest.mark.parametrize("rate", RATES)
def test_elements_are_dropped_at_the_rate_and_the_mean_is_kept(rate):
    torch.manual_seed(0)
    count = 200_000
    mask, scale = kept(torch.empty(count, dtype=torch.float64), rate)
    spread = 5 * (rate * (1 - rate) / count) ** 0.5
    assert (~mask).double().mean().item() == pytest.approx(rate, abs=spread)
    assert scale == pytest.approx(1 / (1 - rate), rel=1e-3)
    assert mask.double().mean().item() * scale == pytest.approx(1, abs=spread * scale)


@pytest.mark.parametrize("rate", [0.003, 0.1, 0.9, 0.9999])
def test_every_place_is_dropped_at_the_rate(rate):
    """Also where a rate is no multiple of 1/256, and is rounded to one or the other for each place."""
    torch.manual_seed(0)
    calls, rows = 3000, 20
    x = torch.ones(rows, 2, 3)
    dropped = sum((dropout(x, rate) == 0).double().sum(dim=0) for _ in range(calls)) / (calls * rows)
    assert dropped.shape == (2, 3)
    of_draws = rate * (1 - rate) / (calls * rows)
    of_rounding = 1 / (4 * 256**2 * calls)  # rows of a call share it
    torch.testing.assert_close(
        dropped, torch.full((2, 3), rate).double(), rtol=0, atol=5 * (of_draws + of_rounding) ** 0.5
    )


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    mask, _ = kept(torch.empty(400_000), 0.5)
    for lag in (1, 2, 3, 4, 8):  # eight elements share a random word
        both = (mask[lag:] & mask[:-lag]).double().mean().item()
        assert both == pytest.approx(0.25, abs=0.005)


@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from(RATES), st.integers(0, 2**31))
def test_any_shape_is_kept_and_a_seed_repeats(shape, rate, seed):
    x = torch.ones(shape)
    torch.manual_seed(seed)
    first = dropout(x, rate)
    torch.manual_seed(seed)
    assert first.shape == x.shape
    assert torch.equal(first, dropout(x, rate))


def test_another_call_draws_other_elements():
    torch.manual_seed(0)
    x = torch.ones(1000)
    assert not torch.equal(dropout(x, 0.5), dropout(x, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_floating_dtype_is_kept(dtype):
    torch.manual_seed(0)
    out = dropout(torch.ones(10_000, dtype=dtype), 0.25)
    assert out.dtype == dtype
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75, dtype=dtype).item()}


@pytest.mark.slow
def test_a_compiled_network_drops_the_same_elements():
    network = FeedForward(8, 16, 0.25).train()
    x, results = torch.randn(5, 8), []
    for call in (network, torch.compile(network, dynamic=False)):
        torch.manual_seed(0)
        out = call(x)
        results.append((out, *torch.autograd.grad(out.sum(), tuple(network.parameters()))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_the_gradient_is_the_mask():
    torch.manual_seed(0)
    x = torch.randn(7, 11, dtype=torch.float64).requires_grad_()
    torch.manual_seed(1)
    out = dropout(x, 0.5)
    (out * 4).sum().backward()
    torch.manual_seed(1)
    assert torch.equal(x.grad, 4 * dropout(torch.ones_like(x), 0.5))
    assert torch.equal(out.detach(), x.detach() * x.grad / 4)


def test_inputs_without_a_dense_layout_are_fine():
    torch.manual_seed(0)
    x = torch.randn(6, 10).T
    out = dropout(x, 0.5)
    assert torch.equal(out[out != 0], (x * 2)[out != 0])


def test_rates_at_the_ends():
    x = torch.randn(50)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros(50))


@pytest.mark.parametrize("rate", [1e-7, 1 - 1e-7])
def test_rates_near_the_ends_stay_finite(rate):
    torch.manual_seed(0)
    assert torch.isfinite(dropout(torch.ones(100_000), rate)).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="probability"):
        dropout(torch.ones(3), rate)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_modules_refuse_them_when_they_are_made(rate):
    for made in (lambda: Dropout(rate), lambda: Attention(4, 1, rate), lambda: FeedForward(4, 8, rate)):
        with pytest.raises(UserError, match=f"A rate of dropout is {rate}; expected 0 or more, and less than 1"):
            made()


def test_the_module_drops_while_training_only():
    module, x = Dropout(0.5), torch.randn(1000)
    torch.manual_seed(0)
    assert not torch.equal(module(x), x)
    assert module.eval()(x) is x
    assert "rate=0.5" in repr(module)
