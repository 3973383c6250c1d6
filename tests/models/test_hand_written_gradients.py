"""Operations whose gradient we wrote: against finite differences, and against the same written plainly."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmcse.models.attention import Attention, _Split, merge_heads, weighted_sum
from mmcse.models.feedforward import FeedForward
from mmcse.models.similarity import relu_cosine


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_weighted_sum(rate):
    torch.manual_seed(0)
    heads = torch.randn(3, 2, 1, 3, 4, dtype=torch.float64, requires_grad=True)

    def attend(heads):
        torch.manual_seed(1)  # the same weights are dropped each time
        return weighted_sum(heads, rate, need_weights=True)

    assert torch.autograd.gradcheck(attend, (heads,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_are_split_and_merged_without_loss(dtype):
    torch.manual_seed(0)
    query, context = torch.randn(2, 3, 5, 8).to(dtype), torch.randn(2, 3, 5, 16).to(dtype)
    heads = _Split.apply(query.requires_grad_(), context.requires_grad_(), 4)
    expected = [x.unflatten(-1, (4, 2)).transpose(-2, -3) for x in (query, *context.chunk(2, dim=-1))]
    assert torch.equal(heads, torch.stack(expected).float())
    parts = merge_heads(heads, dtype)
    assert all(torch.equal(a, b) for a, b in zip(parts, (query, *context.chunk(2, dim=-1)), strict=True))
    weights = [torch.randn_like(part) for part in parts]
    gradients = torch.autograd.grad(parts, (query, context), weights)
    assert torch.equal(gradients[0], weights[0])
    assert torch.equal(gradients[1], torch.cat(weights[1:], dim=-1))


def test_attention_without_a_loss_on_its_map():
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.0).double()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    theirs.load_state_dict({n.replace("in_proj.", "in_proj_"): p for n, p in attention.state_dict().items()})
    tokens = torch.randn(3, 5, 8, dtype=torch.float64, requires_grad=True)
    other = torch.randn(3, 5, 8, dtype=torch.float64)
    ours, expected = attention(tokens, other)[0], theirs(tokens, other, other)[0]
    torch.testing.assert_close(ours, expected)
    for output, weight in ((ours, attention.in_proj.weight), (expected, theirs.in_proj_weight)):
        output.square().sum().backward()
        weight.of_loss, tokens.grad = (tokens.grad, weight.grad), None
    for a, b in zip(attention.in_proj.weight.of_loss, theirs.in_proj_weight.of_loss, strict=True):
        torch.testing.assert_close(a, b)


def test_feed_forward_drops_at_its_rate_and_keeps_the_mean():
    torch.manual_seed(0)
    feedforward = FeedForward(6, 20_000, dropout=0.25).double()
    first, _, _, second = feedforward
    tokens = torch.randn(1, 6, dtype=torch.float64)
    nn.init.constant_(second.weight, 1.0)
    expected = feedforward.eval()(tokens)
    assert torch.equal(expected, second(first(tokens).relu()))
    torch.testing.assert_close(feedforward.train()(tokens), expected, rtol=0.02, atol=0)
    feedforward(tokens)[0, 0].backward()
    dropped = ((first.bias.grad == 0) & (first(tokens)[0] > 0)).sum() / (first(tokens)[0] > 0).sum()
    assert dropped.item() == pytest.approx(0.25, abs=0.02)


def test_feed_forward_gradient():
    torch.manual_seed(0)
    feedforward = FeedForward(3, 5, dropout=0.4).double().train()

    def forward(tokens):
        torch.manual_seed(1)
        return feedforward(tokens)

    assert torch.autograd.gradcheck(forward, torch.randn(4, 3, dtype=torch.float64, requires_grad=True))


def test_relu_cosine():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.rand(2, 1, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = F.cosine_similarity(x.relu(), reference, dim=-1).unsqueeze(-1)
    torch.testing.assert_close(relu_cosine(x, reference, shared=1), expected)
    assert torch.autograd.gradcheck(lambda x, r: relu_cosine(x, r, shared=1), (x, reference))


def test_relu_cosine_of_nothing_is_zero_and_has_no_gradient():
    x = torch.full((1, 2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    reference = torch.zeros(1, 1, 3, dtype=torch.float64, requires_grad=True)
    cosine = relu_cosine(x, reference, shared=1)
    cosine.sum().backward()
    assert not cosine.any()
    assert not x.grad.any()
    assert not reference.grad.any()
