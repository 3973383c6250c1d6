"""LFAV: graphs of segments, events and their interaction against loops; where there is no event; mistakes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_zoo import small, small_videos
from mmcse.models import LFAV, count_parameters
from mmcse.models.lfav import GraphAttention, snippet_edges


def parse(network, batch):
    return network(batch.audio, batch.visual, batch.motion)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_edges_join_neighbours_and_unbroken_runs(active):
    edges = snippet_edges(torch.tensor(active))
    for i in range(len(active)):
        for j in range(len(active)):
            run = all(active[min(i, j) : max(i, j) + 1])
            assert edges[i, j] == (abs(i - j) <= 1 or run)


def test_a_gap_splits_a_run():
    edges = snippet_edges(torch.tensor([True, True, True, False, True, True]))
    assert edges[0, 2]
    assert not edges[0, 4]
    assert not edges[2, 4]
    assert edges[4, 5]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_graph_attention_agrees_with_loops_over_classes_and_nodes(segments, classes, seed):
    torch.manual_seed(seed)
    layer = GraphAttention(4).double()
    nodes = torch.randn(2, 2, segments, 4).double()
    edges = snippet_edges(torch.rand(2, classes, 2, segments) < 0.5)
    found, mapped = layer(nodes, edges), nodes @ layer.weight
    own, other = layer.attention[:4, 0], layer.attention[4:, 0]
    for b in range(2):
        for m in range(2):
            for i in range(segments):
                results = []
                for k in range(classes):
                    seen = [j for j in range(segments) if edges[b, k, m, i, j]]
                    scores = torch.stack([own @ mapped[b, m, i] + other @ mapped[b, m, j] for j in seen])
                    weights = F.leaky_relu(scores, 0.1).softmax(dim=0)
                    results.append(F.elu(sum(w * mapped[b, m, j] for w, j in zip(weights, seen, strict=True))))
                torch.testing.assert_close(found[b, m, i], torch.stack(results).mean(dim=0))


def test_events_written_out():
    network, batch = small(LFAV, 6, 4, num_heads=2, num_levels=2), small_videos(6, 4)
    out = parse(network, batch)
    weights = network.head(out.features).weights
    linear = network.head.event
    for b in range(3):
        for m in range(2):
            for k in range(4):
                on = [t for t in range(6) if out.first.logits[b, t, m, k].sigmoid() >= 0.5]
                assert bool(on) == bool(out.events.exists[b, m, k])
                if on:
                    total = sum(weights[b, t, m, k] for t in on)
                    event = sum(weights[b, t, m, k] * out.features[b, t, m] for t in on) / total
                    expected = (linear.weight[k] @ event + linear.bias[k]).sigmoid()
                    torch.testing.assert_close(out.events.prob[b, m, k], expected)
    assert 0 < out.events.exists.double().mean() < 1


def test_interaction_written_out_for_one_event():
    network = small(LFAV, 6, 4, num_heads=2, num_levels=2).interaction
    events, exists = torch.randn(1, 2, 4, 8).double(), torch.tensor([[[1, 0, 1, 0], [0, 0, 0, 0]]]).bool()
    events = events * exists.unsqueeze(-1)
    normed = network.norm(events)
    related = network(events, exists)
    audio = [0, 2]  # the only keys that exist; visual has none, so that all of its keys count alike
    for k in range(4):
        query = normed[:, 0, [k]]
        from_own = network.within(query, normed[:, 0, audio])
        from_other = network.across.out(network.across.value(normed[:, 1]).mean(dim=1, keepdim=True))
        torch.testing.assert_close(related[:, 0, [k]], events[:, 0, [k]] + from_own + from_other)


def test_reweighting_follows_the_likeness_with_the_event_where_there_is_one():
    network, batch = small(LFAV, 6, 4, num_heads=2, num_levels=2), small_videos(6, 4)
    out = parse(network, batch)
    second = torch.stack((out.audio_prob, out.visual_prob), dim=1)
    exists = out.events.exists
    assert torch.equal(out.events.reweighted_prob[~exists], second[~exists])
    least, most = out.segment_prob.amin(dim=1), out.segment_prob.amax(dim=1)
    assert (out.events.reweighted_prob[exists] > least[exists]).all()
    assert (out.events.reweighted_prob[exists] < most[exists]).all()
    assert not torch.allclose(out.events.reweighted_prob[exists], out.segment_prob.mean(dim=1)[exists], rtol=1e-4)


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_all_or_no_segments_active(threshold, share):
    network, batch = small(LFAV, 5, 3, num_heads=2, num_levels=2, threshold=threshold), small_videos(5, 3)
    out = parse(network, batch)
    assert out.active.double().mean() == share
    assert out.events.exists.double().mean() == share
    assert all(x.isfinite().all() for x in (out.events.related_prob, out.events.reweighted_prob, out.segment_logits))


def test_no_gradient_passes_through_the_graph_and_the_weights_of_events():
    network, batch = small(LFAV, 5, 3, num_heads=2, num_levels=2), small_videos(5, 3)
    out = parse(network, batch)
    (out.segment_logits.sum() + out.events.prob.sum()).backward()
    assert network.first_head.event.weight.grad is None
    assert network.head.temporal.weight.grad is None
    assert network.levels[0].audio.attention.in_proj.weight.grad.any()


def test_stage_three_is_for_training_only():
    network, batch = small(LFAV, 5, 3, num_heads=2, num_levels=2), small_videos(5, 3)
    assert network(batch.audio, batch.visual, batch.motion, auxiliary=False).events is None
    assert count_parameters(network)[1] == sum(p.numel() for p in network.interaction.parameters())


def test_there_is_no_video_probability_but_the_larger_of_both():
    network, batch = small(LFAV, 5, 3, num_heads=2, num_levels=2), small_videos(5, 3)
    out = parse(network, batch)
    assert torch.equal(out.video_prob, torch.maximum(out.audio_prob, out.visual_prob))


@pytest.mark.parametrize(("segments", "levels"), [(10, 4), (40, 6), (200, 6), (1, 1), (3, 2), (16, 5)])
def test_as_many_levels_as_the_segments_complete(segments, levels):
    network = small(LFAV, segments, 2, num_heads=2, num_levels=levels)
    assert len(network.levels) == levels
    out = parse(network, small_videos(segments, 2, count=1))
    assert out.segment_logits.shape == (1, segments, 2, 2)
