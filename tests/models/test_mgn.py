"""MGN: how things are assigned to tokens, where noise enters, and what the two maps say."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import grad

from golden_zoo import small, small_videos
from mmcse.evaluation.decode import decode_output
from mmcse.models import MGN
from mmcse.models.grouping import GroupingBlock, StochasticDepth, TransformerBlock


def parse(network, batch):
    return network(batch.audio, batch.visual, batch.motion)


def block(rule: str) -> GroupingBlock:
    torch.manual_seed(0)
    return GroupingBlock(num_tokens=3, dim=8, num_heads=2, rule=rule).double().eval()


@pytest.fixture
def things_and_tokens():
    torch.manual_seed(1)
    return torch.randn(2, 5, 8).double(), torch.randn(2, 3, 8).double()


def test_things_spread_over_tokens_or_belong_to_one(things_and_tokens):
    _, soft = block("soft")(*things_and_tokens)
    _, hard = block("hard")(*things_and_tokens)
    assert soft.shape == hard.shape == (2, 3, 5)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(2, 5).double())
    torch.testing.assert_close(
        hard.sort(dim=1).values, torch.tensor([0.0, 0, 1]).double()[None, :, None].expand(2, 3, 5)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_is_drawn_in_single_precision(dtype):
    """In half precision a draw may be 0, whose logarithm is infinite."""
    grouping, scores = block("hard").train(), torch.zeros(2, 3, 5000, dtype=dtype)
    drawn = []
    for given in (scores, scores.float()):
        torch.manual_seed(2)
        drawn.append(grouping._assign(given))
    assert drawn[0].dtype == dtype
    assert torch.equal(drawn[0], drawn[1].to(dtype))


def test_a_hard_assignment_has_the_gradient_of_the_soft_one(things_and_tokens):
    things = things_and_tokens[0].requires_grad_()
    pull = torch.randn(2, 3, 5).double()
    of_soft, of_hard = (grad((block(rule)(things, things_and_tokens[1])[1] * pull).sum(), things)[0]
                        for rule in ("soft", "hard"))  # fmt: skip
    torch.testing.assert_close(of_hard, of_soft)
    assert of_soft.any()


def test_the_hard_rule_is_noisy_in_training_only(things_and_tokens):
    network = block("hard")
    assert torch.equal(network(*things_and_tokens)[1], network(*things_and_tokens)[1])
    network.train()
    draws = torch.stack([network(*things_and_tokens)[1] for _ in range(50)])
    assert (draws.round() == draws.round()[0]).all(dim=0).float().mean() < 1
    torch.testing.assert_close(draws.sum(dim=2), torch.ones(50, 2, 5).double())
    soft = block("soft").train()
    assert torch.equal(soft(*things_and_tokens)[1], soft(*things_and_tokens)[1])


@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_grouping_written_out(things_and_tokens, rule):
    """A token gets its things' values in shares of what it was assigned, plus one."""
    network, (things, tokens) = block(rule), things_and_tokens
    x, t = network.thing_norm(things), network.token_norm(tokens)
    mixed = torch.stack([network.mixing(t[:, :, c]) for c in range(8)], dim=-1)
    p = network.mixed_norm(mixed)
    p = p + network.gathering(p, x)
    p = network.gathered_norm(p + network.gathering_mlp(network.gathering_norm(p)))
    query, key, value = network.assigning.query(p), network.assigning.key(x), network.assigning.value(x)
    gathered = torch.zeros_like(p)
    for b in range(2):
        for n in range(3):
            scores = [query[b] @ key[b, s] / 8**0.5 for s in range(5)]
            share = torch.stack([(x.softmax(dim=0) if rule == "soft" else x == x.max())[n].double() for x in scores])
            torch.testing.assert_close(network(things, tokens)[1][b, n], share)
            gathered[b, n] = (share[:, None] * value[b]).sum(dim=0) / (share.sum() + 1)
    u = p + network.assigning.out(gathered)
    torch.testing.assert_close(network(things, tokens)[0], u + network.result_mlp(network.result_norm(u)))


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer, x = StochasticDepth(0.25), torch.ones(4000, 2, 3)
    kept = layer(x).flatten(1)
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(kept, kept[:, :1].expand_as(kept))
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_a_dropped_block_changes_nothing():
    torch.manual_seed(0)
    network, tokens = TransformerBlock(8, 2, drop_path=0.999).train(), torch.randn(3, 4, 8)
    assert torch.equal(network(tokens), tokens)
    assert not torch.allclose(network.eval()(tokens), tokens)


def test_the_exchange_takes_the_opposite_rule():
    for rule, opposite in (("soft", "hard"), ("hard", "soft")):
        network = small(MGN, 5, 3, num_heads=2, unimodal_rule=rule)
        assert network.audio.grouping.rule == network.visual.grouping.rule == rule
        assert network.audio.exchange.rule == opposite
        assert network.visual.exchange is None
        assert network.cross.grouping.rule == "soft"


def test_audio_segments_are_exchanged_for_the_projected_visual_ones():
    network, batch = small(MGN, 5, 3, num_heads=2), small_videos(5, 3)
    before = parse(network, batch)
    batch.visual[:, :2] += 1  # frames of the first segment
    after = parse(network, batch)
    assert (after.audio_prob != before.audio_prob).any()
    x_audio, x_visual = network.front_end(batch.audio, batch.visual, batch.motion)
    tokens = network.audio_tokens.expand(3, -1, -1)
    blocks = network.audio.blocks(torch.cat((x_audio, tokens), dim=1))
    exchanged, _ = network.audio.exchange(blocks[:, :5], x_visual)
    torch.testing.assert_close(after.segments[:, :, 0], exchanged)


def test_the_released_map_hardly_tells_segments_apart_and_the_plain_one_does():
    """For ten segments a softmax of values in [0, 1] lies between 1 / (1 + 9e) and e / (e + 9)."""
    batch = small_videos(10, 4)
    released = parse(small(MGN, 10, 4, num_heads=2), batch)
    plain = parse(small(MGN, 10, 4, num_heads=2, soft_map="assignment"), batch)
    lowest, highest = 1 / (1 + 9 * torch.e), torch.e / (torch.e + 9)
    assert (released.assignment >= 1 + lowest).all()
    assert (released.assignment <= 1 + highest).all()
    torch.testing.assert_close(released.assignment, 1 + plain.assignment.softmax(dim=1))
    torch.testing.assert_close(plain.assignment.sum(dim=-1), torch.ones(3, 10, 2).double())
    assert torch.equal(released.audio_prob, plain.audio_prob)


@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_with_a_plain_map_a_segment_has_at_most_one_event_of_a_modality(rule):
    network, batch = small(MGN, 10, 4, num_heads=2, unimodal_rule=rule, soft_map="assignment"), small_videos(10, 4)
    for head in (network.audio_head, network.visual_head):
        head.bias.data.fill_(9)
    if rule == "soft":  # shares far from equal
        for of_modality in (network.audio, network.visual):
            of_modality.grouping.assigning.query.weight.data.mul_(1000)
    found = parse(network, batch).segment_prob >= 0.5
    assert found.any()
    assert found.sum(dim=-1).max() == 1


def test_under_the_hard_rule_a_segment_has_the_probability_of_its_video_in_one_class():
    network, batch = small(MGN, 10, 4, num_heads=2, unimodal_rule="hard"), small_videos(10, 4)
    out = parse(network, batch)
    for index, (module, prob) in enumerate(((network.audio, out.audio_prob), (network.visual, out.visual_prob))):
        x = network.front_end(batch.audio, batch.visual, batch.motion)
        learnt = (network.audio_tokens, network.visual_tokens)[index].expand(3, -1, -1)
        both = module.blocks(torch.cat((x[index], learnt), dim=1))
        group = module.grouping
        tokens = group.token_norm(both[:, 10:])
        tokens = group.mixed_norm(group.mixing(tokens.transpose(1, 2)).transpose(1, 2))
        things = group.thing_norm(out.segments[:, :, index])
        tokens = tokens + group.gathering(tokens, things)
        tokens = group.gathered_norm(tokens + group.gathering_mlp(group.gathering_norm(tokens)))
        scores = group.assigning.key(things) @ group.assigning.query(tokens).transpose(1, 2)  # (B, T, K)
        expected = prob[:, None] * F.one_hot(scores.argmax(dim=-1), 4)
        torch.testing.assert_close(out.segment_prob[:, :, index], expected)


def test_probabilities_above_one_are_kept_and_decided_upon():
    network, batch = small(MGN, 5, 3, num_heads=2), small_videos(5, 3)
    network.audio_head.bias.data.fill_(9)
    network.visual_head.bias.data.fill_(-0.3)  # a probability near 0.43: its map decides
    network.video_head.bias.data.fill_(9)
    out = parse(network, batch)
    assert (out.segment_prob[:, :, 0] > 1).all()
    assert out.segment_logits.isfinite().all()
    pred_audio, pred_visual = decode_output(out, gate="video/video")
    assert pred_audio.all()
    assert torch.equal(pred_visual, out.visual_prob[:, None] * out.assignment[:, :, 1] >= 0.5)
    assert pred_visual.any()


def test_linears_start_small_and_class_tokens_at_zero():
    torch.manual_seed(0)
    network = MGN(hidden_dim=64)
    assert not network.audio_tokens.any()
    assert not network.visual_tokens.any()
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and module.weight.numel() > 1000:
            assert 0.018 < module.weight.std() < 0.022, name
            assert not module.bias.any(), name
