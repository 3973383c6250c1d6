"""MM-Pyramid: how far a level sees, how levels start, and which stream is called what."""

import pytest
import torch

from golden_zoo import small, small_videos
from mmcse.models import MMPyramid
from mmcse.models.mmpyramid import PyramidEncoder


def encoder(levels: int) -> PyramidEncoder:
    torch.manual_seed(0)
    return PyramidEncoder(8, levels, num_heads=2, feedforward_dim=6).double().eval()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_sees_its_window_and_its_convolution_as_far_again(level):
    """A window of d and then a convolution of reach d: segments at most 2d away, in either modality."""
    network, segments, reach = encoder(3).levels[level], 19, 2 * 2**level
    audio, visual = (torch.randn(1, segments, 8).double() for _ in range(2))
    before = torch.stack(network(audio, visual))
    for changed in (0, 1):
        inputs = [audio.clone(), visual.clone()]
        inputs[changed][:, 9] += 1
        differs = (torch.stack(network(*inputs)) != before).any(dim=-1).squeeze(1)  # (2, T)
        distance = (torch.arange(segments) - 9).abs()
        assert not differs[:, distance > reach].any()
        assert differs[:, distance == reach].all()


def test_a_stream_written_out():
    torch.manual_seed(0)
    level = encoder(2).levels[1]
    own, other = torch.randn(2, 7, 8).double(), torch.randn(2, 7, 8).double()
    stream, visible = level.audio, (torch.arange(7)[:, None] - torch.arange(7)).abs() <= 2
    within = stream.within(own, own, visible)
    both = torch.cat((within, other), dim=-1)
    gated = stream.within_gate(both).sigmoid() * within + stream.cross_gate(both).sigmoid() * other
    expected = torch.zeros_like(gated)
    for t in range(7):
        taps = [stream.over_time.weight[:, :, i] @ gated[:, s].T for i, s in enumerate((t - 2, t, t + 2)) if 0 <= s < 7]
        hidden = (sum(taps).T + stream.over_time.bias).relu()
        expected[:, t] = (hidden @ stream.pointwise.weight[:, :, 0].T + stream.pointwise.bias + gated[:, t]).relu()
    torch.testing.assert_close(stream(own, other, visible), expected)


def test_one_cross_layer_reads_the_inputs_of_its_level_in_both_directions():
    level = encoder(1).levels[0]
    torch.manual_seed(1)
    audio, visual = torch.randn(2, 5, 8).double(), torch.randn(2, 5, 8).double()
    visible = (torch.arange(5)[:, None] - torch.arange(5)).abs() <= 1
    new_audio, new_visual = level(audio, visual)
    torch.testing.assert_close(new_audio, level.audio(audio, level.cross(audio, visual, visible), visible))
    torch.testing.assert_close(new_visual, level.visual(visual, level.cross(visual, audio, visible), visible))


def test_fusion_written_out():
    """Levels of a segment attend to each other; each is weighed by a sigmoid of its own, and they are summed."""
    fusion = encoder(3).audio_fusion
    torch.manual_seed(2)
    levels = [torch.randn(2, 4, 8).double() for _ in range(3)]
    fused = fusion(levels)
    layer, heads = fusion.layer, (slice(0, 4), slice(4, 8))
    for b in range(2):
        for t in range(4):
            tokens = torch.stack([level[b, t] for level in levels])  # (L, D); keys and values are not normalised
            query = layer.attention.query(layer.attention_norm(tokens))
            key, value = layer.attention.key(tokens), layer.attention.value(tokens)
            seen = [(query[:, h] @ key[:, h].T / 2).softmax(dim=-1) @ value[:, h] for h in heads]
            related = tokens + layer.attention.out(torch.cat(seen, dim=-1))
            first, last = layer.feedforward[0], layer.feedforward[3]
            related = related + last(first(layer.feedforward_norm(related)).relu())
            weights = [(fusion.weight.weight[0] @ token + fusion.weight.bias[0]).sigmoid() for token in related]
            torch.testing.assert_close(fused[b, t], sum(w * z for w, z in zip(weights, related, strict=True)))
            assert (sum(weights) - 1).abs() > 1e-3  # no softmax


def test_layers_start_as_in_the_released_code():
    network = encoder(2)
    starts = {
        name: parameter
        for name, parameter in network.named_parameters()
        if name.startswith("levels") and name.endswith(("feedforward.0.weight", "attention.query.weight"))
    }
    feedforwards = [p for name, p in starts.items() if "feedforward" in name]
    queries = [p for name, p in starts.items() if "query" in name]
    assert len(feedforwards) == len(queries) == 6
    assert all(torch.equal(p, feedforwards[0]) for p in feedforwards)
    assert not any(torch.equal(p, queries[0]) for p in queries[1:])
    fusions = [module.layer.state_dict() for module in (network.audio_fusion, network.visual_fusion)]
    assert all(torch.equal(fusions[0][name], fusions[1][name]) for name in fusions[0])


def test_the_order_of_streams_renames_predictions_and_nothing_else():
    batch = small_videos(5, 3)
    swapped, straight = (
        small(MMPyramid, 5, 3, num_heads=2, stream_order=order)(batch.audio, batch.visual, batch.motion)
        for order in ("swapped", "straight")
    )
    assert torch.equal(swapped.encoded, straight.encoded)
    assert torch.equal(swapped.audio_prob, straight.visual_prob)
    assert torch.equal(swapped.visual_prob, straight.audio_prob)
    assert torch.equal(swapped.segment_logits, straight.segment_logits.flip(2))
    torch.testing.assert_close(swapped.video_prob, straight.video_prob)
    assert not torch.allclose(swapped.audio_prob, straight.audio_prob)
