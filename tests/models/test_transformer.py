"""Attention to a partly hidden context, and the layer that normalises its queries only."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.errors import UserError
from mmcse.models.transformer import ContextAttention, QueryNormLayer, start_alike


def by_hand(attention, tokens, context, visible):
    """One set of tokens (n, D), query by query and head by head."""
    width = tokens.shape[-1] // attention.num_heads
    query, key, value = attention.query(tokens), attention.key(context), attention.value(context)
    rows = []
    for i in range(len(tokens)):
        heads = []
        for h in range(attention.num_heads):
            own = slice(h * width, (h + 1) * width)
            seen = [j for j in range(len(context)) if visible[i, j]] or list(range(len(context)))
            scores = torch.stack([query[i, own] @ key[j, own] / math.sqrt(width) for j in seen])
            if not visible[i].any():
                scores = torch.zeros_like(scores)
            heads.append(sum(w * value[j, own] for w, j in zip(scores.softmax(dim=0), seen, strict=True)))
        rows.append(torch.cat(heads))
    return attention.out(torch.stack(rows))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from((1, 2, 3)), st.integers(0, 2**31))
def test_agrees_with_loops_over_queries_and_heads(queries, keys, heads, seed):
    torch.manual_seed(seed)
    attention = ContextAttention(6, heads).double()
    tokens, context = torch.randn(2, queries, 6).double(), torch.randn(2, keys, 6).double()
    visible = torch.rand(2, queries, keys) < 0.6
    found = attention(tokens, context, visible)
    expected = torch.stack([by_hand(attention, *x) for x in zip(tokens, context, visible, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(attention(tokens, context), attention(tokens, context, torch.ones_like(visible)))


def test_what_is_hidden_has_no_influence_and_no_gradient():
    torch.manual_seed(0)
    attention, tokens = ContextAttention(4, 2).double(), torch.randn(3, 4).double()
    context = torch.randn(5, 4).double().requires_grad_()
    visible = torch.tensor([True, False, True, False, False])
    attention(tokens, context, visible[None]).square().sum().backward()
    assert context.grad[visible].all()
    assert not context.grad[~visible].any()


def test_a_layer_normalises_queries_only():
    torch.manual_seed(0)
    layer = QueryNormLayer(6, 2, 5, attention_dropout=0.1, dropout=0.2).double().eval()
    tokens, context = torch.randn(2, 3, 6).double(), torch.randn(2, 4, 6).double()
    attended = tokens + layer.attention(layer.attention_norm(tokens), context)
    first, _, _, second = layer.feedforward
    expected = attended + second(first(layer.feedforward_norm(attended)).relu())
    torch.testing.assert_close(layer(tokens, context), expected)
    # no norm undoes a scale of the context
    assert not torch.allclose(layer(tokens, context), layer(tokens, 2 * context))


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    layer, tokens = QueryNormLayer(6, 2, 5, attention_dropout=0.5, dropout=0.5), torch.randn(4, 3, 6)
    assert not torch.equal(layer(tokens, tokens), layer(tokens, tokens))
    layer.eval()
    assert torch.equal(layer(tokens, tokens), layer(tokens, tokens))


def test_modules_that_start_alike_are_trained_apart():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    start_alike([first, second])
    assert torch.equal(first.weight, second.weight)
    first.weight.data.add_(1)
    assert not torch.equal(first.weight, second.weight)


def test_heads_divide_the_width():
    with pytest.raises(UserError, match=r"hidden_dim \(6\) must be a multiple of num_heads \(4\)"):
        ContextAttention(6, 4)
