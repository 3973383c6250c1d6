"""The seeded inputs of the reference numbers: those of any salt and any number of segments."""

import runpy
import zlib
from dataclasses import fields

import numpy as np
import pytest
import torch

import golden
import golden_hybrids
import golden_zoo

SHAPES = (3, 4, 6), (3, 8, 7), (3, 4, 5)


def tensors(batch):
    named = ((field.name, getattr(batch, field.name)) for field in fields(batch))
    return {name: value for name, value in named if isinstance(value, torch.Tensor)}


def differing(one, other):
    return {name for name, tensor in tensors(one).items() if not torch.equal(tensor, tensors(other)[name])}


def test_features_and_labels_are_those_of_their_salt():
    batch, labels = golden.batch(*SHAPES, suffix="2", salt=5), golden.labels(3, 5, segments=4)
    motion = np.random.default_rng([5, zlib.crc32(b"visual_st2")]).standard_normal((3, 4, 5))
    assert np.array_equal(batch.motion.numpy(), motion)
    assert all(torch.equal(tensors(batch)[name], label) for name, label in labels.items())
    assert differing(batch, golden.batch(*SHAPES, suffix="2", salt=6)) == tensors(batch).keys()


def test_labels_may_have_a_salt_of_their_own():
    batch = golden.batch(*SHAPES, salt=5)
    assert differing(batch, golden.batch(*SHAPES, salt=5, label_salt=6)) == {"weak", "pseudo_audio", "pseudo_visual"}
    assert differing(batch, golden.batch(*SHAPES, salt=6, label_salt=5)) == {"audio", "visual", "motion"}


def test_labels_have_the_segments_of_the_features():
    batch = golden_zoo.videos(segments=7)
    assert batch.visual.shape == (3, 56, 2048)
    assert batch.motion.shape == (3, 7, 512)
    assert batch.pseudo_audio is not None
    assert batch.pseudo_audio.shape == (3, 7, 25)
    assert torch.equal(batch.pseudo_audio, golden.labels(3, segments=7)["pseudo_audio"])


def test_weights_and_numbers_have_the_salt_they_are_asked_for():
    for seeded in (golden.value, golden.parameter, golden_zoo.parameter, golden_hybrids.uniform):
        five, six, five_again = (torch.as_tensor(seeded("name", (3, 2), salt)) for salt in (5, 6, 5))
        assert torch.equal(five, five_again)
        assert not torch.equal(five, six)


@pytest.mark.parametrize(("given", "salt"), [(None, 11), ("12", 12)])
def test_the_environment_says_which_salt_the_reference_numbers_have(monkeypatch, given, salt):
    monkeypatch.delenv("MMCSE_GOLDEN_SALT", raising=False)
    if given:
        monkeypatch.setenv("MMCSE_GOLDEN_SALT", given)
    module = runpy.run_path(golden.__file__)
    assert not differing(module["batch"](*SHAPES), golden.batch(*SHAPES, salt=salt))
    assert torch.equal(module["parameter"]("name", (3, 2)), golden.parameter("name", (3, 2), salt))
