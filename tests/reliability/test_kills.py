"""Runs that are killed, and go on: they end with every bit of a run that nobody disturbed."""

import itertools
import random
import time

import pytest
from killable import PHASES, finish, kill, narrow_bank, outcome, run_folders, start, words

pytestmark = pytest.mark.slow
KILLS = 20


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return narrow_bank(tmp_path_factory.mktemp("narrow") / "bank")


@pytest.fixture(scope="module")
def undisturbed(bank, tmp_path_factory):
    """What a run comes to that nobody disturbs, and how long its process lives."""
    for number in range(2):  # the first time, the process is waited for from which others are forked
        root, clock = tmp_path_factory.mktemp(f"undisturbed{number}"), time.monotonic()
        assert finish(start(words(bank, root))) == 0
        seconds = time.monotonic() - clock
    [folder] = run_folders(root)
    return outcome(folder), seconds


def test_twenty_kills_at_random_moments_change_no_bit(bank, undisturbed, tmp_path, evidence):
    whole, seconds = undisturbed
    moments = random.Random(0)
    kills, roots = 0, []
    while kills < KILLS:
        roots.append(tmp_path / str(len(roots)))
        while kill(process := start(words(bank, roots[-1])), after=moments.uniform(0, seconds)):
            kills += 1
        assert process.exitcode == 0
    for root in roots:
        [folder] = run_folders(root)
        assert outcome(folder) == whole
    evidence(faults=kills, checked=len(roots))


@pytest.mark.parametrize("phase", PHASES)
def test_kills_at_every_write_change_no_bit(bank, undisturbed, tmp_path, phase, evidence):
    """Write number n of the n-th attempt is the last thing it does, until an attempt has fewer writes left."""
    whole, _ = undisturbed
    for number in itertools.count():
        process = start(words(bank, tmp_path), kill_at=(number, phase))
        if finish(process) == 0:
            break
        assert process.exitcode == -9
    assert number >= 5
    [folder] = run_folders(tmp_path)
    assert outcome(folder) == whole
    evidence(faults=number, checked=1)
