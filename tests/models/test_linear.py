"""Our linear layer against PyTorch's, in every precision and layout."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmcse.models.linear import Linear, linear


@pytest.fixture(params=[False, True], autouse=True, ids=["as on Intel", "as on AMD"])
def prefers_convolutions(request, monkeypatch):
    """Both ways, whatever processor the tests run on."""
    monkeypatch.setattr("mmcse.models.linear._prefers_convolutions", lambda: request.param)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 9), max_size=4), st.integers(1, 7), st.integers(1, 7), st.booleans(), st.booleans())
def test_values_and_gradients_are_those_of_pytorch(leading, wide, out, bias, strided):
    x = torch.randn(*leading, 2 * wide)[..., ::2] if strided else torch.randn(*leading, wide)
    layer = Linear(wide, out, bias=bias)
    parameters = [x.clone().requires_grad_(), *layer.parameters()]
    ours = linear(parameters[0], layer.weight, layer.bias)
    theirs = F.linear(parameters[0], layer.weight, layer.bias)
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    gradient = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad(y, parameters, gradient) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [(16, 10), (20, 5, 3), (17,)])
def test_no_rounding_beyond_single_precision(rows):
    torch.manual_seed(0)
    x, layer = torch.randn(*rows, 128), Linear(128, 64)
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double())
    assert (layer(x) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_pytorchs_own(dtype):
    x, layer = torch.randn(32, 5).to(dtype), Linear(5, 3).to(dtype)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("rows", [32, 2000])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_autocast_is_respected(rows, weights):
    torch.manual_seed(0)
    layer, x = Linear(5, 3, dtype=weights), torch.randn(rows, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    gradients = torch.autograd.grad(out.sum(), tuple(layer.parameters()))
    assert out.dtype == torch.bfloat16
    assert {gradient.dtype for gradient in gradients} == {weights}
    exact = F.linear(x, layer.weight.float(), layer.bias.float())
    torch.testing.assert_close(out.float(), exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(gradients[0].float(), x.sum(dim=0).expand(3, 5), rtol=0.02, atol=1)
    torch.testing.assert_close(gradients[1].float(), torch.full((3,), float(rows)))


def test_double_precision_stays_so_under_autocast():
    x, layer = torch.randn(2000, 5).double(), Linear(5, 3).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
