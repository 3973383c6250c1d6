"""What the methods beside HAN, VALOR and MM-CSE have in common with every network of the suite, at odd sizes."""

import pytest
import torch

from golden_zoo import small, small_videos
from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.evaluation.decode import decode_output
from mmcse.models import CMPAE, CVCMS, DHHN, LEAP, LFAV, MGN, DHHNPair, JoMoLD, MMPyramid
from mmcse.models.checkpoint_files import export_reference, read_reference_checkpoint
from mmcse.models.reference import (
    load_reference_state,
    repeated_reference_names,
    to_reference_state,
    unused_reference_names,
)
from mmcse.objectives import (
    CMPAEObjective,
    CVCMSObjective,
    DHHNObjective,
    HANObjective,
    JoMoLDObjective,
    LEAPObjective,
    LFAVObjective,
    MGNObjective,
)

METHODS = {
    "mmpyramid": (MMPyramid, {"num_heads": 2, "num_levels": 3, "feedforward_dim": 6}, HANObjective()),
    "mmpyramid-straight": (MMPyramid, {"num_heads": 4, "stream_order": "straight"}, HANObjective()),
    "leap-mmpyramid": (LEAP, {"num_heads": 2, "num_levels": 2, "num_layers": 3, "video": "max"}, LEAPObjective()),
    "leap-han": (LEAP, {"encoder": "han", "feedforward_dim": 6}, LEAPObjective(labels="weak")),
    "mgn": (MGN, {"num_heads": 2, "audio_depth": 1, "visual_depth": 2, "cross_depth": 1}, MGNObjective()),
    "mgn-hard": (MGN, {"num_heads": 2, "unimodal_rule": "hard", "cross_rule": "hard"}, MGNObjective()),
    "dhhn": (DHHN, {"guide_heads": 2, "feedforward_dim": 6}, DHHNObjective("refined")),
    "dhhn-pair": (DHHNPair, {"num_heads": 2}, None),
    "lfav": (LFAV, {"num_heads": 2, "num_levels": 1, "threshold": 0.4}, LFAVObjective()),
    "lfav-heads": (LFAV, {"num_heads": 2, "num_levels": 1, "window_heads": 4}, LFAVObjective()),
    "jomold": (JoMoLD, {"num_heads": 2, "feedforward_dim": 6}, JoMoLDObjective()),
    "cmpae": (CMPAE, {"num_layers": 2, "feedforward_dim": 6}, CMPAEObjective()),
    "cvcms": (CVCMS, {"class_dim": 4, "feedforward_dim": 6}, CVCMSObjective()),
    "cvcms-linear": (CVCMS, {"class_dim": 4, "class_tokens": False}, CVCMSObjective()),
    "lfav-half": (LFAV, {"num_heads": 2, "num_levels": 1, "roll": "half_window"}, LFAVObjective(labels="modality")),
}
every_method = pytest.mark.parametrize(("build", "switches", "objective"), METHODS.values(), ids=METHODS)


def features(batch):
    return batch.audio, batch.visual, batch.motion


@every_method
@pytest.mark.parametrize(("segments", "classes"), [(1, 1), (3, 2), (7, 5)])
def test_segments_and_classes_are_free(build, switches, objective, segments, classes):
    network, batch = small(build, segments, classes, **switches), small_videos(segments, classes)
    out = network(*features(batch))
    assert isinstance(out, ParserOutput)
    assert out.segment_logits.shape == out.segment_prob.shape == (3, segments, 2, classes)
    assert out.segment_logits.isfinite().all()
    torch.testing.assert_close(out.segment_logits.sigmoid(), out.segment_prob.clamp(max=1), rtol=1e-12, atol=1e-12)
    for prob in (out.video_prob, out.audio_prob, out.visual_prob):
        assert prob.shape == (3, classes)
        assert (prob >= 0).all()
    pred_audio, _ = decode_output(out, gate="audio/visual")
    assert torch.equal(pred_audio, (out.segment_prob[:, :, 0] >= 0.5) & (out.audio_prob[:, None] >= 0.5))
    if objective is not None:
        losses = objective(out, batch)
        assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())


@every_method
def test_videos_of_a_batch_do_not_touch_each_other(build, switches, objective):
    network, batch = small(build, 5, 3, **switches), small_videos(5, 3)
    alone = [network(*(x[i : i + 1] for x in features(batch))) for i in range(3)]
    together = network(*features(batch))
    for name in ("segment_logits", "video_prob", "audio_prob", "visual_prob"):
        torch.testing.assert_close(getattr(together, name), torch.cat([getattr(out, name) for out in alone]))


@every_method
def test_without_auxiliary_outputs_nothing_changes(build, switches, objective):
    network, batch = small(build, 5, 3, **switches), small_videos(5, 3)
    full, bare = network(*features(batch)), network(*features(batch), auxiliary=False)
    for name in ("segment_logits", "video_prob", "audio_prob", "visual_prob"):
        assert torch.equal(getattr(full, name), getattr(bare, name))


@every_method
def test_training_reaches_every_parameter(build, switches, objective):
    if objective is None:
        pytest.skip("the pair is made of trained networks")
    torch.manual_seed(1)
    network, batch = small(build, 6, 3, **switches).train(), small_videos(6, 3, count=8)
    idle = {name for name, _ in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):  # MGN's tokens start at zero, and hard assignments may spare a parameter now and then
        optimizer.zero_grad()
        objective(network(*features(batch)), batch)["total"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        idle -= {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert idle == set()


@every_method
def test_what_the_authors_code_would_save_is_read_and_written(build, switches, objective, tmp_path):
    network, other = small(build, 5, 3, **switches), small(build, 5, 3, **switches)
    for parameter in other.parameters():
        parameter.data.zero_()
    export_reference(network, tmp_path / "theirs.pth")
    state = read_reference_checkpoint(tmp_path / "theirs.pth")
    own = to_reference_state(network)
    assert (
        state.keys() == own.keys() | unused_reference_names(network).keys() | repeated_reference_names(network).keys()
    )
    load_reference_state(other, state)
    assert all(torch.equal(tensor, own[name]) for name, tensor in to_reference_state(other).items())
    batch = small_videos(5, 3)
    assert torch.equal(other(*features(batch)).segment_prob, network(*features(batch)).segment_prob)
    missing = next(iter(own))
    with pytest.raises(UserError, match="1 problems"):
        load_reference_state(network, {n: t for n, t in own.items() if n != missing})


@pytest.mark.parametrize("second", ["MMP.capture.vnetwork.0.net.0.bias", "MMP.capture.anetwork.1.net.2.weight"])
def test_of_a_tensor_that_a_state_holds_twice_the_later_name_wins(second):
    network = small(MMPyramid, 5, 3, num_heads=2, num_levels=2)
    first = repeated_reference_names(network)[second]
    state = to_reference_state(network)
    changed = state[first] + 1
    load_reference_state(network, state | {second: changed})
    assert torch.equal(to_reference_state(network)[first], changed)
    del state[first]
    load_reference_state(network, state | {second: changed - 1})
    assert torch.equal(to_reference_state(network)[first], changed - 1)


@pytest.mark.parametrize(
    ("build", "switches", "said"),
    [
        (MMPyramid, {"stream_order": "mixed"}, "stream_order is 'mixed'; expected 'swapped' or 'straight'"),
        (MMPyramid, {"num_levels": 0}, "at least one level; num_levels is 0"),
        (MMPyramid, {"num_heads": 3}, r"hidden_dim \(8\) must be a multiple of num_heads \(3\)"),
        (LEAP, {"encoder": "hann"}, "encoder is 'hann'; expected 'mmpyramid' or 'han'"),
        (LEAP, {"video": "or"}, "video is 'or'; expected 'thresholded_or' or 'max'"),
        (LEAP, {"num_layers": 0}, "at least one layer; num_layers is 0"),
        (MGN, {"unimodal_rule": "firm"}, "unimodal_rule is 'firm'; expected 'soft' or 'hard'"),
        (MGN, {"cross_rule": "firm"}, "cross_rule is 'firm'"),
        (MGN, {"soft_map": "softmax"}, "soft_map is 'softmax'; expected 'double_softmax' or 'assignment'"),
        (MGN, {"drop_path": 1.0}, "drop_path is 1.0"),
        (DHHN, {"guides": "two"}, "guides is 'two'; expected one of both, audio, visual, none"),
        (DHHN, {"guide_heads": 3}, r"hidden_dim \(8\) must be a multiple of guide_heads \(3\)"),
        (DHHN, {"visual_guide_layers": 0}, "visual_guide_layers is 0"),
        (LFAV, {"roll": "two"}, "roll is 'two'; expected 'one' or 'half_window'"),
        (LFAV, {"window_heads": 3}, r"hidden_dim \(8\) must be a multiple of window_heads \(3\)"),
        (LFAV, {"window_heads": 0}, r"a multiple of window_heads \(0\)"),
        (LFAV, {"num_levels": 0}, "at least one level of windows; num_levels is 0"),
        (LFAV, {"num_levels": 5}, "windows of 32 segments, which 10 segments .* at most 4 levels"),
    ],
)
def test_impossible_arguments_are_refused(build, switches, said):
    with pytest.raises(UserError, match=said):
        small(build, 10, 3, **switches)


@every_method
@pytest.mark.parametrize("other", [4, 10, 15])
def test_videos_of_another_number_of_segments_are_refused(build, switches, objective, other):
    """4 and 10 could be CLAP's tokens, 10 and 15 are multiples of what the network was built for."""
    network, batch = small(build, 5, 3, **switches), small_videos(other, 3)
    with pytest.raises(UserError, match=f"{other} segments in audio and motion.* Build it with num_segments={other}"):
        network(*features(batch))
    own = small_videos(5, 3)  # with four tokens of CLAP's map
    assert network(batch.audio[:, :4], own.visual, own.motion).segment_logits.shape[1] == 5


@pytest.mark.parametrize("objective", [MGNObjective(), DHHNObjective(), LFAVObjective(), LEAPObjective()])
def test_the_output_of_another_network_is_refused(objective):
    batch = small_videos(4, 3)
    out = ParserOutput(
        segment_logits=torch.zeros(3, 4, 2, 3).double(),
        **dict.fromkeys(("video_prob", "audio_prob", "visual_prob"), torch.full((3, 3), 0.5).double()),
    )
    with pytest.raises(UserError, match="Use the network of"):
        objective(out, batch)
