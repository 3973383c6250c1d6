"""Attention inside windows against loops over windows, for any length."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcse.models.windows import WindowAttention, WindowLevel


def inside_windows(module, segments, context):
    """One pass over (T, D), window by window."""
    length, window = len(segments), module.window
    queries, keys = list(module.pre_norm(segments)), list(module.pre_norm(context))
    while len(queries) % window:  # the whole tail once more, in its order
        missing = -length % window
        queries += queries[length - missing : length]
        keys += keys[length - missing : length]
    gathered = []
    for start in range(0, len(queries), window):
        q, k = torch.stack(queries[start : start + window]), torch.stack(keys[start : start + window])
        gathered.append(module.attention(q[None], k[None])[0][0])
    return module.post_norm(torch.cat(gathered)[:length] + segments)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.integers(0, 9), st.booleans(), st.sampled_from(("one", "half_window")), st.integers(0, 99))
def test_agrees_with_loops_over_windows(exponent, extra, own, roll, seed):
    window = 2 ** (exponent + 1)
    length = window // 2 + extra  # the least length that its repetition completes to a window
    torch.manual_seed(seed)
    module = WindowAttention(4, 2, window, dropout=0.2, roll=roll).double().eval()
    segments, context = torch.randn(2, length, 4).double(), torch.randn(2, length, 4).double()
    shift = 1 if roll == "one" else window // 2
    expected = []
    for x, y in zip(segments, segments if own else context, strict=True):
        first = inside_windows(module, x, y)
        y = first if own else y
        expected.append(inside_windows(module, first.roll(-shift, 0), y.roll(-shift, 0)).roll(shift, 0))
    found = module(segments) if own else module(segments, context)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-11)


def test_segments_of_other_windows_are_reached_by_the_second_pass_alone():
    torch.manual_seed(0)
    module = WindowAttention(4, 2, 4, dropout=0.0, roll="one").double().eval()
    x = torch.randn(1, 12, 4).double()
    changed = x.clone()
    changed[:, 0, 0] += 1
    differs = (module(x) != module(changed)).any(dim=-1)[0]
    # windows 0-3, 4-7, 8-11; moved by one: 1-4, 5-8, and 9-11 with 0
    assert differs.tolist() == [True] * 5 + [False] * 4 + [True] * 3


def test_the_cross_step_reads_both_modalities_before_it_and_is_shared():
    torch.manual_seed(0)
    level = WindowLevel(4, 2, 2, dropout=0.0, roll="one").double().eval()
    both = torch.randn(2, 3, 5, 4).double()
    audio, visual = level.audio(both[0]), level.visual(both[1])
    expected = torch.stack((audio + level.cross(audio, visual), visual + level.cross(visual, audio)))
    torch.testing.assert_close(level(both), expected)


@pytest.mark.parametrize("context", [None, 1])
def test_dropout_acts_in_training_only(context):
    torch.manual_seed(0)
    module, x = WindowAttention(4, 2, 2, dropout=0.5, roll="one"), torch.randn(2, 6, 4)
    context = None if context is None else torch.randn(2, 6, 4)
    assert not torch.equal(module(x, context), module(x, context))
    module.eval()
    assert torch.equal(module(x, context), module(x, context))
