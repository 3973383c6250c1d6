"""LSLD's label rules and objective against loops over their definitions."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmcse.batch import Batch
from mmcse.errors import UserError
from mmcse.models import LSLD
from mmcse.models.reference import load_reference_state, to_reference_state
from mmcse.objectives import LSLDObjective
from mmcse.objectives.lsld import (
    AUDIO_PROMPT,
    choose_by_prompts,
    event_combinations,
    language_labels,
    required_texts,
    reweight,
)
from mmcse.vocabulary import LLP_CLASSES, LSLD_PHRASES

seeds = st.integers(0, 2**31)
CLASSES_OF_PHRASES = ("Dog", "a car", "Rain", "Speech", "Cello")
PHRASES = ("barking", "a car", "rain", "speech", "a cello")


def encoder(texts) -> Tensor:
    """An embedding of its own for each text, and the same one whenever it comes."""
    return torch.stack(
        [torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, t))), dtype=torch.float64) for t in texts]
    )


def test_events_are_combined_in_the_order_of_the_paper():
    assert event_combinations(1) == [(0,), ()]
    assert event_combinations(2) == [(0, 1), (0,), (1,), ()]
    assert event_combinations(3) == [(0, 1, 2), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), ()]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), seeds)
def test_a_segment_keeps_the_events_of_the_closest_prompt(videos, segments, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    weak = (torch.rand(videos, classes, generator=generator) < 0.5).double()
    embeddings = torch.randn(videos, segments, 8, generator=generator, dtype=torch.float64)
    found = choose_by_prompts(weak, embeddings, PHRASES[:classes], encoder)
    for i in range(videos):
        events = weak[i].nonzero().flatten().tolist()
        for t in range(segments):
            if len(events) in (1, 2, 3):
                choices = [[events[j] for j in members] for members in event_combinations(len(events))]
                prompts = [" and ".join(PHRASES[k] for k in chosen) if chosen else "other" for chosen in choices]
                cosines = F.cosine_similarity(embeddings[i, t], encoder(prompts), dim=-1)
                kept = choices[int(cosines.argmax())]
            else:
                kept = events
            assert found[i, t].nonzero().flatten().tolist() == kept


@pytest.mark.parametrize("events", [1, 2, 3, 4])
def test_where_there_is_nothing_to_hear_or_see_none_of_the_events_is_chosen(events):
    """Of more than three events none is chosen, and all are kept in every segment."""
    weak = (torch.arange(5) < events).double()[None]
    segments = torch.randn(1, 6, 8, dtype=torch.float64)
    whole = choose_by_prompts(weak, segments, PHRASES, encoder)
    segments[0, 2:4] = 0
    found = choose_by_prompts(weak, segments, PHRASES, encoder)
    assert torch.equal(found[0, 2:4], weak.expand(2, -1) if events == 4 else torch.zeros(2, 5).double())
    assert torch.equal(found[0, [0, 1, 4, 5]], whole[0, [0, 1, 4, 5]])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_the_required_texts_are_those_that_are_asked(videos, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    weak = (torch.rand(videos, classes, generator=generator) < 0.5).double()
    segments = torch.randn(2, videos, 3, 8, dtype=torch.float64, generator=generator)
    names = CLASSES_OF_PHRASES[:classes]
    asked = set(), set()

    def recorded(texts, modality):
        asked[modality].update(texts)
        return encoder(texts)

    language_labels(weak, *segments, PHRASES, names, *(partial(recorded, modality=m) for m in (0, 1)))
    audio, visual = required_texts(weak, PHRASES, names)
    assert set(audio) == asked[0] | {AUDIO_PROMPT.format("other")}
    assert set(visual) == asked[1] | {"other"}
    assert len(set(visual)) == len(visual)


def test_a_class_with_a_single_positive_segment_is_treated_like_any_other():
    """The reference code stops there."""
    labels = torch.tensor([[[1.0], [0.0]], [[0.0], [0.0]]])
    cosines = torch.tensor([[[0.2], [0.1]], [[0.25], [0.3]]])
    expected = torch.tensor([[[0.8], [0.0]], [[0.1], [0.12]]])
    torch.testing.assert_close(reweight(labels, cosines), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.floats(0.1, 6), st.floats(0.1, 2), seeds)
def test_doubtful_labels_become_soft(videos, segments, classes, event_ratio, noise_ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(videos, segments, classes, generator=generator) < 0.3).double()
    cosines = torch.rand(videos, segments, classes, generator=generator, dtype=torch.float64) * 0.6 - 0.1
    found = reweight(labels, cosines, event_ratio, noise_ratio)
    for k in range(classes):
        label, cosine = labels[..., k].flatten().tolist(), cosines[..., k].flatten().tolist()
        positives = [s for s, y in zip(cosine, label, strict=True) if y]
        others = [s for s, y in zip(cosine, label, strict=True) if not y]
        expected = label[:]
        if positives and others and max(others) > min(positives):
            for i, (s, y) in enumerate(zip(cosine, label, strict=True)):
                soft = (event_ratio if y else noise_ratio) * s
                if (s < max(others) if y else s > min(positives)) and 0 < soft < 1:
                    expected[i] = soft
        assert found[..., k].flatten().tolist() == expected


def test_audio_is_asked_by_sentences_and_stays_binary():
    asked: dict[str, list[str]] = {"audio": [], "visual": []}

    def recorded(name):
        def encode(texts):
            asked[name] += texts
            return encoder(texts)

        return encode

    weak = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    segments = torch.randn(2, 2, 4, 8, dtype=torch.float64)
    names = ("Dog", "Car", "Rain")
    audio, visual = language_labels(weak, *segments, PHRASES[:3], names, recorded("audio"), recorded("visual"))
    assert set(audio.unique().tolist()) <= {0.0, 1.0}
    assert all(text.startswith(AUDIO_PROMPT.format("")) for text in asked["audio"])
    assert asked["visual"][-3:] == list(names)
    assert {"barking and rain", "other", "a car"} <= set(asked["visual"])
    assert audio.shape == visual.shape == (2, 4, 3)


def test_phrases_name_the_classes_of_llp():
    assert len(LSLD_PHRASES) == len(set(LSLD_PHRASES)) == len(LLP_CLASSES)
    alike = [c for c, p in zip(LLP_CLASSES, LSLD_PHRASES, strict=True) if c.lower()[:4] in p.lower()]
    assert len(alike) >= 20  # in the same order


SMALL = {"audio_dim": 4, "visual_dim": 5, "motion_dim": 3, "num_classes": 3, "num_segments": 7, "hidden_dim": 8}
SMALL |= {"num_layers": 2, "num_heads": 2, "feedforward_dim": 6}


def videos(count: int = 4) -> Batch:
    soft = torch.rand(2, count, 7, 3, dtype=torch.float64)
    return Batch(
        audio=torch.randn(count, 7, 4, dtype=torch.float64),
        visual=torch.randn(count, 14, 5, dtype=torch.float64),
        motion=torch.randn(count, 7, 3, dtype=torch.float64),
        weak=torch.randint(2, (count, 3)).double(),
        pseudo_audio=soft[0].round(),
        pseudo_visual=soft[1],
    )


def test_motion_is_read_only_where_asked_for():
    torch.manual_seed(0)
    batch = videos()
    for motion in (False, True):
        network = LSLD(**SMALL, motion=motion).double().eval()
        other = LSLD(**SMALL, motion=motion).double().eval()
        load_reference_state(other, to_reference_state(network))
        before = network(batch.audio, batch.visual, batch.motion).segment_logits
        assert torch.equal(other(batch.audio, batch.visual, batch.motion).segment_logits, before)
        after = network(batch.audio, batch.visual, torch.randn_like(batch.motion)).segment_logits
        assert torch.equal(before, after) is not motion


def test_the_objective_weighs_audio_three_times():
    torch.manual_seed(0)
    network, batch = LSLD(**SMALL).double().train(), videos()
    out = network(batch.audio, batch.visual, batch.motion)
    losses = LSLDObjective()(out, batch)
    prob = out.segment_prob
    expected = 3 * F.binary_cross_entropy(prob[:, :, 0], batch.pseudo_audio)
    expected = expected + F.binary_cross_entropy(prob[:, :, 1], batch.pseudo_visual) + losses["video"]
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.any() for n, p in network.named_parameters() if "in_proj.bias" not in n)
    on_weak = LSLDObjective(segment_labels="weak")(out, batch)
    expected = F.binary_cross_entropy(prob[:, :, 1], batch.weak[:, None].expand(-1, 7, -1))
    torch.testing.assert_close(on_weak["segment_visual"], expected)
    with pytest.raises(UserError, match="segment_labels is 'soft'; expected 'pseudo' or 'weak'"):
        LSLDObjective(segment_labels="soft")
