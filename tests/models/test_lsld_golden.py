"""LSLD against numbers of the authors' implementation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import golden
from golden_hybrids import (
    SMALL,
    assert_golden,
    assert_states_fit,
    fingerprint,
    losses_and_norms,
    predictions,
    small_batch,
    with_zoo_weights,
    zoo_numbers,
)
from literal_hybrid import LiteralHybrid
from mmcse.models import LSLD, count_parameters
from mmcse.models.reference import to_reference_state, unused_reference_names
from mmcse.objectives import LSLDObjective
from mmcse.objectives.lsld import language_labels
from mmcse.vocabulary import LLP_CLASSES, LSLD_PHRASES


@pytest.fixture(scope="module")
def numbers(shared):
    return zoo_numbers(shared, "lsld")


@pytest.fixture(scope="module")
def network(shared):
    return with_zoo_weights(LSLD(), shared, "lsld")


@pytest.fixture(scope="module")
def videos():
    return golden.batch((3, 10, 512), (3, 80, 512), (3, 10, 512))


def test_forward(network, numbers, videos):
    assert_golden(predictions(network(videos.audio, videos.visual, videos.motion)), numbers, "forward")


def test_losses_and_gradients(network, numbers, videos):
    rng = np.random.default_rng([golden.SALT, 8])
    high, low = (torch.from_numpy(rng.random((3, 10, 25))) for _ in range(2))
    seen = videos.pseudo_visual
    batch = replace(videos, pseudo_visual=seen * (0.5 + 0.5 * high) + (1 - seen) * 0.1 * low)
    out = network(batch.audio, batch.visual, batch.motion)
    names = {"loss_audio": "loss_segment_audio", "loss_visual": "loss_segment_visual"}
    assert_golden(losses_and_norms(network, LSLDObjective()(out, batch)), numbers, "train", names)


def texts(phrases):
    return torch.from_numpy(np.stack([golden.value("text:" + phrase, (512,)) for phrase in phrases]))


def test_labels_from_language(shared, numbers):
    weak = torch.from_numpy(numbers["denoise.y"])
    audio = torch.from_numpy(golden.value("denoise.audio", (96, 10, 512)))
    frames = torch.from_numpy(golden.value("denoise.visual", (96, 80, 512)))
    common = torch.from_numpy(golden.value("denoise.common", (512,)))
    frames = frames + 0.12 * (weak @ texts(LLP_CLASSES))[:, None] + 0.1 * common
    visual = frames.unflatten(1, (10, 8)).mean(dim=2)
    given = weak, audio, visual, LSLD_PHRASES, LLP_CLASSES, texts, texts
    of_audio, of_visual = language_labels(*given)
    ours = {"y": weak, "prompt_audio": of_audio, "reweight_audio": of_audio, "reweight_visual": of_visual}
    _, ours["prompt_visual"] = language_labels(*given, soft=False)
    assert_golden(ours, numbers, "denoise")
    assert ((of_visual > 0) & (of_visual < 1)).any()


def test_state_of_the_authors_in_and_out(shared, network):
    assert_states_fit(network, shared, "lsld", in_state=11_080_267, used=11_078_219)


def test_sizes_are_the_authors():
    unused = 2_048  # two norms that the reference holds and never applies
    assert sum(math.prod(shape) for shape in unused_reference_names(LSLD()).values()) == unused
    assert count_parameters(LSLD()) == (11_080_267 - unused, 0) == (11_078_219, 0)
    assert count_parameters(LSLD(num_layers=6)) == (16_337_483 - unused, 0)
    six_on_llp = LSLD(audio_dim=128, visual_dim=2048, num_layers=6, motion=True)
    assert count_parameters(six_on_llp) == (17_714_763 - unused, 0)


def test_a_segment_is_the_mean_of_its_eight_frames():
    torch.manual_seed(0)
    network = LSLD(**SMALL).double().eval()
    audio, frames, motion = (torch.randn(2, n, c, dtype=torch.float64) for n, c in ((10, 6), (80, 7), (10, 5)))
    means = torch.stack([frames[:, 8 * t : 8 * t + 8].mean(dim=1) for t in range(10)], dim=1)
    of_frames, of_means = (network(audio, visual, motion).segment_logits for visual in (frames, means))
    torch.testing.assert_close(of_frames, of_means)


@pytest.mark.parametrize(("motion", "num_layers"), [(True, 6), (False, 4)])
def test_the_network_written_out(motion, num_layers):
    """Six layers on HAN's front end, for LLP's features; four, without motion and fusion, for CLAP and CLIP."""
    torch.manual_seed(0)
    sizes = SMALL | {"num_classes": 3, "num_layers": num_layers, "num_heads": 1}
    network = LSLD(**sizes, motion=motion).double().eval()
    literal = LiteralHybrid(**sizes, sequential=False).double().eval()
    literal.load_state_dict(to_reference_state(network), strict=motion)
    if not motion:
        literal.fc_fusion = torch.nn.Identity()
        literal.fc_st = Nothing()
    videos = tuple(torch.randn(2, n, c, dtype=torch.float64) for n, c in ((10, 6), (80, 7), (10, 5)))
    ours, theirs = network(*videos), literal(*videos)
    for name in ("segment_logits", "video_prob", "audio_prob", "visual_prob"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))


class Nothing(torch.nn.Module):
    """A stream of no width."""

    def forward(self, stream):
        return stream[..., :0]


@pytest.mark.parametrize(
    ("motion", "expected"),
    [
        (False, [4.04837536923, 3.33047984864, 747.79481843164, 35.51045810067]),
        (True, [4.00981768768, 5.38559962626, 756.71398320729, 36.60358764324]),
    ],
)
def test_our_own_numbers_stay(motion, expected):
    """Kept since parity was shown: for machines without the reference numbers."""
    found = fingerprint(LSLD(**SMALL, motion=motion), LSLDObjective(), small_batch())
    assert found == pytest.approx(expected, rel=0, abs=1e-9)
