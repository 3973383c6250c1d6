"""DHHN: its temporal scales, its guides, and the pair that is tested."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golden_zoo import small, small_videos
from mmcse.models import DHHN, DHHNPair, count_parameters
from mmcse.models.hierarchical import SCALES, AveragedOutput, Scale, nearest


def features(batch):
    return batch.audio, batch.visual, batch.motion


def parse(network, batch):
    return network(*features(batch))


@given(st.integers(1, 12), st.integers(1, 40))
def test_coarse_positions_are_brought_back_by_the_nearest(positions, segments):
    coarse = torch.arange(positions)[None, :, None].expand(2, -1, 3)
    fine = nearest(coarse, segments)
    assert fine.shape == (2, segments, 3)
    for t in range(segments):
        assert (fine[:, t] == t * positions // segments).all()


@pytest.mark.parametrize("segments", [1, 2, 4, 7, 10, 11])
def test_scales_have_their_lengths_at_any_number_of_segments(segments):
    lengths = [Scale(4, *scale)(torch.randn(2, segments, 4)).shape[1] for scale in SCALES]
    assert lengths == [segments, -(-segments // 2), -(-segments // 5)]


def test_ten_segments_make_scales_of_ten_five_and_two():
    assert [Scale(4, *scale)(torch.randn(2, 10, 4)).shape[1] for scale in SCALES] == [10, 5, 2]


def test_the_parser_written_out():
    """Coarser scales are added on top of the finer ones; every sum is parsed, and probabilities are averaged."""
    network, batch = small(DHHN, 7, 3, guide_heads=2).parser, small_videos(7, 3)
    out = parse(network, batch)
    audio, visual = network.front_end(batch.audio, batch.visual, batch.motion)
    sums, parsed = [0, 0], []
    for scale_audio, scale_visual in zip(network.audio_scales, network.visual_scales, strict=True):
        old_audio, old_visual = scale_audio(audio), scale_visual(visual)
        new = network.layers[0](old_audio, old_visual), network.layers[0](old_visual, old_audio)
        sums = [total + nearest(x, 7) for total, x in zip(sums, new, strict=True)]
        parsed.append(network.head(torch.stack(sums, dim=2)))
    for name in ("segment_prob", "video_prob", "audio_prob", "visual_prob"):
        expected = sum(getattr(p, name) for p in parsed) / 3
        torch.testing.assert_close(getattr(out, name), expected)


@pytest.mark.parametrize("build", [DHHN, DHHNPair])
def test_averages_are_not_moved_across_a_threshold(build):
    """The sigmoid of their logit may round one just below a half up to it."""
    network = small(build, 2, 3).float()
    parsers = (network.parser,) * 2 if build is DHHN else (network.audio_parser, network.visual_parser)
    below, above = (torch.tensor(0.5).nextafter(torch.tensor(bound)) for bound in (0.0, 1.0))
    averages = torch.stack((below, torch.tensor(0.5), above)).expand(3, 2, 2, 3)
    for parser in parsers:
        parser.head = Constant(averages)
    out = network(*(x.float() for x in features(small_videos(2, 3))))
    assert torch.equal(out.segment_prob, averages)
    assert (out.segment_prob >= 0.5).all(dim=(0, 1, 2)).tolist() == [False, True, True]


class Constant(torch.nn.Module):
    """A head that finds given segment probabilities."""

    def __init__(self, prob):
        super().__init__()
        self.prob = prob

    def forward(self, _):
        prob, video = self.prob, self.prob[:, 0, 0]
        return AveragedOutput(
            segment_logits=prob.logit(), segment_average=prob, video_prob=video, audio_prob=video, visual_prob=video
        )


def test_in_half_precision_averages_and_their_logits_are_single():
    network, batch = small(DHHN, 5, 3, guide_heads=2).float(), small_videos(5, 3)
    torch.nn.init.constant_(network.parser.head.event.bias, -9.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(*(x.float() for x in features(batch)))
    assert out.segment_prob.dtype == out.segment_logits.dtype == out.video_prob.dtype == torch.float32
    assert out.segment_logits.max() < -6  # half precision's least distance from 0 would be that of -4.9


def test_a_guide_uses_its_layers_several_times():
    network, batch = small(DHHN, 5, 3, guide_heads=2, visual_guide_repeats=2), small_videos(5, 3)
    guide = network.visual_guide
    x = guide.projection(batch.visual, batch.motion)
    x = x + guide.encoder(x)
    x = x + guide.encoder(x)
    logits, weights = guide.event(x), guide.temporal(x).softmax(dim=1)
    said = parse(network, batch).visual_guide
    torch.testing.assert_close(said.segment_logits, logits)
    torch.testing.assert_close(said.prob, (weights * logits.sigmoid()).sum(dim=1))
    assert (len(guide.encoder.layers), len(network.audio_guide.encoder.layers)) == (2, 1)


def test_a_guide_sees_its_own_modality_only():
    network, batch = small(DHHN, 5, 3, guide_heads=2), small_videos(5, 3)
    before = parse(network, batch)
    batch.audio.add_(1)
    after = parse(network, batch)
    assert torch.equal(after.visual_guide.prob, before.visual_guide.prob)
    assert not torch.equal(after.audio_guide.prob, before.audio_guide.prob)


@pytest.mark.parametrize(
    ("guides", "there"),
    [("both", (True, True)), ("audio", (True, False)), ("visual", (False, True)), ("none", (False, False))],
)
def test_guides_can_be_left_out_and_are_for_training_only(guides, there):
    network, batch = small(DHHN, 5, 3, guide_heads=2, guides=guides), small_videos(5, 3)
    out = parse(network, batch)
    assert (out.audio_guide is not None, out.visual_guide is not None) == there
    inference, training_only = count_parameters(network)
    assert inference == count_parameters(network.parser)[0]
    assert bool(training_only) == any(there)
    bare = network(batch.audio, batch.visual, batch.motion, auxiliary=False)
    assert bare.audio_guide is bare.visual_guide is None


def test_the_pair_takes_each_modality_from_its_own_copy():
    pair, batch = small(DHHNPair, 5, 3), small_videos(5, 3)
    of_audio, of_visual = parse(pair.audio_parser, batch), parse(pair.visual_parser, batch)
    out = parse(pair, batch)
    assert not torch.equal(of_audio.audio_prob, of_visual.audio_prob)
    assert torch.equal(out.segment_logits[:, :, 0], of_audio.segment_logits[:, :, 0])
    assert torch.equal(out.segment_logits[:, :, 1], of_visual.segment_logits[:, :, 1])
    torch.testing.assert_close(out.video_prob, (of_audio.video_prob + of_visual.video_prob) / 2)


def test_batch_norm_follows_the_batches_in_training_only():
    network, batch = small(DHHN, 5, 3, guide_heads=2), small_videos(5, 3)
    statistics = network.parser.audio_scales[0].norm.running_mean
    before = statistics.clone()
    parse(network, batch)
    assert torch.equal(statistics, before)
    parse(network.train(), batch)
    assert not torch.equal(statistics, before)
