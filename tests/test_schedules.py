"""Learning rates, epoch by epoch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcse.errors import UserError
from mmcse.schedules import warmup_cosine

PEAK = 3e-4


def rates(epochs, warmup_epochs=10, max_epochs=60, final_share=0.01):
    """The learning rate in each of the epochs."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = warmup_cosine(optimizer, warmup_epochs, max_epochs, final_share)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_schedule_of_valor():
    found = rates(60)
    assert found[:10] == pytest.approx([PEAK * epoch / 10 for epoch in range(1, 11)])
    assert max(found) == found[9] == pytest.approx(PEAK)
    assert found[-1] == pytest.approx(3e-6)
    assert found[34] == pytest.approx((PEAK + 3e-6) / 2)  # half of the cosine's 50 epochs


@given(st.integers(0, 12), st.integers(1, 40), st.floats(0, 1))
def test_up_then_down(warmup, more, share):
    found = rates(warmup + more, warmup, warmup + more, share)
    top = max(warmup - 1, 0)
    assert found[:warmup] == sorted(found[:warmup])
    assert all(a >= b - 1e-12 for a, b in zip(found[top:], found[top + 1 :], strict=False))
    assert found[-1] == pytest.approx(share * PEAK, abs=1e-12)
    assert all(0 < rate <= PEAK * (1 + 1e-9) for rate in found[:-1])


def test_past_the_last_epoch_the_rate_stays():
    assert rates(8, warmup_epochs=1, max_epochs=5)[4:] == pytest.approx([3e-6] * 4)


def test_a_run_shorter_than_its_warm_up_only_warms_up():
    assert rates(3, max_epochs=3) == pytest.approx([PEAK * epoch / 10 for epoch in (1, 2, 3)])


@pytest.mark.parametrize(("warmup", "share"), [(-1, 0.01), (10, -0.1), (10, 1.1), (10, float("nan"))])
def test_impossible_settings_are_refused(warmup, share):
    with pytest.raises(UserError, match="Expected a warm-up of 0 epochs or more and a final share from 0 to 1"):
        rates(1, warmup_epochs=warmup, final_share=share)
