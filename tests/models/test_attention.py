"""Our attention against PyTorch's own module: values, maps, and how training starts."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmcse.models.attention import Attention, weighted_sum


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from((1, 2, 4, 300)),  # PyTorch's fused kernel and ours
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
)
def test_values_and_maps_are_those_of_pytorch(heads, head_dim, leading, tokens, training, cross):
    dim = heads * head_dim
    attention = Attention(dim, heads, dropout=0.0).double().train(training)
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True).double()
    nn.init.normal_(attention.in_proj.bias)
    nn.init.normal_(attention.out_proj.bias)
    theirs.load_state_dict(
        {
            "in_proj_weight": attention.in_proj.weight,
            "in_proj_bias": attention.in_proj.bias,
            "out_proj.weight": attention.out_proj.weight,
            "out_proj.bias": attention.out_proj.bias,
        }
    )
    query = torch.randn(*leading, tokens, dim, dtype=torch.float64)
    context = torch.randn_like(query) if cross else query
    rows = context.flatten(0, -3)
    expected, weights = theirs(query.flatten(0, -3), rows, rows, need_weights=True)
    for need_map in (False, True):
        gathered, attention_map = attention(query, context, need_map)
        torch.testing.assert_close(gathered, expected.view_as(query), rtol=1e-9, atol=1e-10)
        assert (attention_map is not None) == need_map
    torch.testing.assert_close(attention_map, weights.view(*leading, tokens, tokens), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("largest", [1.0, 60.0, 300.0, -300.0, 3e4])
@pytest.mark.parametrize("needs", ["nothing", "weights", "gradient"])
def test_weights_are_a_softmax_wherever_scores_lie(largest, needs):
    torch.manual_seed(0)
    heads = torch.randn(3, 2, 5, 7, 4)
    heads[1, ..., 0], heads[0, ..., 0] = 1, 2 * largest  # adds `largest` to all scores of a row, whose softmax stays
    heads[0, 0, 0, 0, 0] = -2 * largest
    heads.requires_grad_(needs == "gradient")
    gathered, weights = weighted_sum(heads, 0.0, needs == "weights")
    query, key, value = heads.detach().double()
    expected = (query @ key.mT / 2).softmax(dim=-1)
    tolerance = 1e-6 * max(1, abs(largest))  # scores are of single precision
    torch.testing.assert_close(gathered.double(), expected @ value, rtol=0, atol=10 * tolerance)
    if weights is not None:
        torch.testing.assert_close(weights.double(), expected, rtol=0, atol=tolerance)
    else:
        assert needs == "nothing"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_hidden(value):
    heads = torch.zeros(3, 1, 2, 3, 4)
    heads[0, 0, 0, 0, 0], heads[1] = value, 1
    gathered, _ = weighted_sum(heads, 0.0, False)
    assert gathered[0, 0, 0].isnan().all()


def test_starts_as_pytorchs_module():
    torch.manual_seed(0)
    ours, theirs = Attention(64, 4, 0.1), nn.MultiheadAttention(64, 4)
    for our_weight, their_weight in (
        (ours.in_proj.weight, theirs.in_proj_weight),
        (ours.out_proj.weight, theirs.out_proj.weight),
    ):  # both uniform: the largest entry tells the bound
        assert float(our_weight.detach().abs().max()) == pytest.approx(
            float(their_weight.detach().abs().max()), rel=0.01
        )
    assert not ours.in_proj.bias.any()
    assert not ours.out_proj.bias.any()


def test_dropout_is_on_the_weights_while_training_only():
    torch.manual_seed(0)
    attention = Attention(4, 1, dropout=0.5).double()
    tokens = torch.randn(50, 6, 4, dtype=torch.float64)
    _, weights = attention(tokens, tokens, need_map=True)
    assert (weights == 0).double().mean() == pytest.approx(0.5, abs=0.1)
    _, weights = attention.eval()(tokens, tokens, need_map=True)
    torch.testing.assert_close(weights.sum(-1), torch.ones(50, 6, dtype=torch.float64))


@pytest.mark.parametrize("cross", [False, True])
def test_half_precision_is_close_with_its_gradients_and_maps(cross):
    torch.manual_seed(0)
    attention = Attention(32, 4, dropout=0.0)
    tokens, context = torch.randn(2, 6, 25, 32)
    results = []
    for module, dtype in ((copy.deepcopy(attention).double(), torch.float64), (attention, torch.float32)):
        x = tokens.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            gathered, attention_map = module(x, context.to(dtype) if cross else x, need_map=True)
        loss = gathered.to(dtype).square().sum() + 100 * attention_map.square().sum()
        results.append((gathered, attention_map, *torch.autograd.grad(loss, (x, *module.parameters()))))
    exact, half = results
    assert half[0].dtype == torch.bfloat16
    assert half[1].dtype == torch.float32  # a loss is computed from the map
    for of_exact, of_half in zip(exact, half, strict=True):
        assert (of_half.double() - of_exact).norm() < 0.02 * of_exact.norm()
