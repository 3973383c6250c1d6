"""Multiply-adds against formulas by hand, and run times that are times."""

import pytest
import torch
from torch import nn

from mmcse.models import HAN, MMCSE, VALOR, LinearProbe
from mmcse.models.efficiency import RunTime, count_multiply_adds, measure_run_time, random_features

SIZES = {"audio_dim": 6, "visual_dim": 10, "motion_dim": 4, "num_classes": 5, "num_segments": 7, "hidden_dim": 8}
WIDTHS = (6, 10, 4)


def front_end(T, widths, D):
    return T * (sum(widths) * D + 2 * D * D)


def attention(sets, n, dim):
    """Four projections of n tokens, and two products of n by n by dim."""
    return sets * (4 * n * dim * dim + 2 * n * n * dim)


def hybrid(T, K, widths, D, L, F):
    layer = 2 * (2 * attention(1, T, D) + 2 * T * D * F)  # both modalities: two attentions and a feed-forward part
    return front_end(T, widths, D) + L * layer + 2 * T * 3 * D * K, L * 2 * 2 * attention(1, T, D)


def mmcse(T, K, widths, D, d, L, F, decoders):
    decoupling = 2 * T * (K + 1) * D * d + T * (K + 1) * d * d  # one linear each, and the visual ones' second
    blending = 2 * T * (D * (D // 2) + D // 2 + (K + 1) * d * d)  # the background's half of `merge` once a segment
    tokens = 2 * T * K
    # LGSF: two linears in either mode; P of both modes
    layer = tokens * (4 * d * d + 2 * d * d + 2 * d * F) + 2 * attention(2 * T, K, d)
    decoder = 2 * T * ((K + 1) * d * D + D * D) if decoders else 0
    total = front_end(T, widths, D) + decoupling + blending + L * layer + tokens * 3 * d + decoder
    return total, L * 2 * attention(2 * T, K, d)


@pytest.mark.parametrize("videos", [1, 3])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_mmcse_is_counted_as_by_hand(videos, auxiliary):
    network = MMCSE(**SIZES, class_dim=4, num_layers=3, num_heads=2, feedforward_dim=9)
    counted = count_multiply_adds(network, random_features(videos, 7, WIDTHS), auxiliary=auxiliary)
    expected = mmcse(7, 5, WIDTHS, 8, 4, 3, 9, decoders=auxiliary)
    assert counted == tuple(videos * n for n in expected)


@pytest.mark.parametrize("build", [HAN, VALOR])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_han_and_valor_are_counted_as_by_hand(build, num_layers):
    network = build(**SIZES, num_layers=num_layers, num_heads=2, feedforward_dim=9)
    counted = count_multiply_adds(network, random_features(1, 7, WIDTHS))
    assert counted == hybrid(7, 5, WIDTHS, 8, num_layers, 9)


def test_the_probe_is_counted_as_by_hand():
    counted = count_multiply_adds(LinearProbe(**SIZES), random_features(1, 7, WIDTHS))
    assert counted == (front_end(7, WIDTHS, 8) + 2 * 7 * 3 * 8 * 5, 0)


def test_what_reaches_the_papers_numbers_and_what_does_not():
    clap_clip = (768, 768, 512)
    whole = count_multiply_adds(MMCSE(), random_features(1, 10, clap_clip), auxiliary=True)
    assert round(whole.total / 1e9, 2) == 0.80
    valor = count_multiply_adds(VALOR(), random_features(1, 10, clap_clip))
    upsampled = (2048 - 10) * 768 * 256
    assert round(valor.total / 1e9, 2) == 0.09
    assert round((valor.total - valor.attention + upsampled) / 1e9, 2) == 0.45
    assert round((whole.total - whole.attention + upsampled) / 1e9, 2) == 0.92


def test_counting_and_timing_leave_the_mode_as_it_was():
    network, features = LinearProbe(**SIZES), random_features(1, 7, WIDTHS)
    for training in (True, False):
        network.train(training)
        count_multiply_adds(network, features)
        measure_run_time(network, features, repeats=1)
        assert network.training is training


def test_run_time_is_the_median_with_quartiles_of_passes_after_the_warm_up():
    class Counting(nn.Module):
        passes = 0

        def forward(self, audio, visual, motion, *, auxiliary):
            assert not auxiliary
            assert not torch.is_grad_enabled()
            self.passes += 1

    network = Counting()
    run_time = measure_run_time(network, random_features(1, 2, (1, 1, 1)), repeats=5, warm_up=2)
    assert network.passes == 7
    assert 0 < run_time.low <= run_time.median <= run_time.high
    assert RunTime(6.0, 4.0, 8.0).per(2) == (3.0, 2.0, 4.0)
