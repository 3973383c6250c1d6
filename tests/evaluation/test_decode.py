import pytest
import torch

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.evaluation import decode, decode_output

YES, NO = 0.9, 0.1


def probabilities(video=YES, audio=YES, visual=YES, segment=YES, T=3, K=2):
    pooled = [torch.full((1, K), p) for p in (video, audio, visual)]
    return torch.full((1, T, 2, K), segment), *pooled


@pytest.mark.parametrize(
    ("gate", "audio_gate", "visual_gate"),
    [
        ("video/video", "video", "video"),
        ("audio/visual", "audio", "visual"),
        ("video/visual", "video", "visual"),
        ("none", None, None),
    ],
)
@pytest.mark.parametrize("closed", ["video", "audio", "visual"])
def test_each_gate_listens_to_its_own_probability(gate, audio_gate, visual_gate, closed):
    audio, visual = decode(*probabilities(**{closed: NO}), gate=gate)
    assert audio.all().item() is (audio_gate != closed)
    assert visual.all().item() is (visual_gate != closed)
    assert audio.any().item() is audio.all().item()


def test_reaching_a_threshold_is_enough():
    segment, *pooled = probabilities(video=0.5, visual=0.5, segment=0.5)
    for decision in decode(segment, *pooled, gate="video/visual"):
        assert decision.all()
    for decision in decode(segment, *pooled, gate="video/visual", gate_threshold=0.6):
        assert not decision.any()
    for decision in decode(segment - 1e-6, *pooled, gate="video/visual"):
        assert not decision.any()


def test_decisions_are_made_per_segment_modality_and_class():
    segment, *pooled = probabilities(segment=NO, T=4, K=3)
    segment[0, 1, 0, 2] = YES
    segment[0, 3, 1, 0] = YES
    audio, visual = decode(segment, *pooled, gate="video/visual")
    assert audio.dtype == visual.dtype == torch.bool
    assert audio.nonzero().tolist() == [[0, 1, 2]]
    assert visual.nonzero().tolist() == [[0, 3, 0]]


def test_a_gate_closes_one_class_and_not_another():
    segment, video, audio, visual = probabilities(K=2)
    video[0, 1] = NO
    heard, seen = decode(segment, video, audio, visual, gate="video/visual")
    assert heard.all(dim=1).tolist() == [[True, False]]
    assert seen.all()


def test_a_threshold_for_each_class():
    heard, seen = decode(*probabilities(segment=0.4), gate="none", threshold=torch.tensor([0.3, 0.5]))
    assert heard.all(dim=1).tolist() == seen.all(dim=1).tolist() == [[True, False]]


def test_wrong_thresholds_and_gates_are_named():
    with pytest.raises(UserError, match=r"\(3,\).*2 classes"):
        decode(*probabilities(K=2), gate="none", threshold=torch.zeros(3))
    with pytest.raises(UserError, match="Did you mean 'video/visual'"):
        decode(*probabilities(), gate="video/visul")  # type: ignore[arg-type]


def test_the_output_of_a_network_is_decoded_from_its_logits():
    segment, video, audio, visual = probabilities(audio=NO)
    output = ParserOutput(
        segment_logits=segment.logit().requires_grad_(), video_prob=video, audio_prob=audio, visual_prob=visual
    )
    heard, seen = decode_output(output, gate="audio/visual")
    assert not heard.any()
    assert seen.all()
    heard, _ = decode_output(output, gate="none", threshold=0.95)
    assert not heard.any()
