"""The same seed gives the same bits, however a run is started."""

import pytest
from killable import finish, narrow_bank, outcome, run_folders, start, words

from mmcse import cli
from mmcse.data import AVVPDataModule

pytestmark = pytest.mark.slow
SEEDS = "seed=0,1"


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return narrow_bank(tmp_path_factory.mktemp("narrow") / "bank")


@pytest.fixture(scope="module")
def alone(bank, tmp_path_factory):
    """What each seed comes to, alone in a fresh process."""
    root = tmp_path_factory.mktemp("alone")
    for seed in (0, 1):
        assert finish(start(words(bank, root, f"seed={seed}"))) == 0
    return outcomes(root)


def outcomes(root):
    return {folder.name: comparable(folder) for folder in run_folders(root)}


def comparable(folder):
    """The outcome of a run without what the way it was started is meant to change: how it shows its progress."""
    found = outcome(folder)
    found.pop("config")
    found["record"]["config"].pop("run")
    for checkpoint in found["checkpoints"].values():
        checkpoint["mmcse"].pop("data")
    return found


def test_in_this_process(bank, alone, tmp_path, evidence):
    for seed in (0, 1):
        assert cli.main(words(bank, tmp_path, f"seed={seed}")) == 0
    assert outcomes(tmp_path) == alone
    evidence(checked=2)


def test_one_after_the_other_in_a_sweep(bank, alone, tmp_path, evidence):
    assert cli.main(words(bank, tmp_path, "-m", SEEDS)) == 0
    assert outcomes(tmp_path) == alone
    evidence(checked=2)


def test_side_by_side_under_joblib(bank, alone, tmp_path, evidence):
    assert cli.main(words(bank, tmp_path, "-m", SEEDS, "launcher=joblib")) == 0
    assert outcomes(tmp_path) == alone
    evidence(checked=2)


def test_with_worker_processes_that_read_ahead(bank, alone, tmp_path, evidence):
    assert finish(start(words(bank, tmp_path, "seed=0", "data.num_workers=1"))) == 0
    [(name, found)] = outcomes(tmp_path).items()
    for key in ("history", "files"):
        assert found[key] == alone[name][key]
    for kind in ("best.ckpt", "last.ckpt"):
        assert found["checkpoints"][kind]["state_dict"] == alone[name]["checkpoints"][kind]["state_dict"]
    assert found["record"]["scores"] == alone[name]["record"]["scores"]
    evidence(checked=1)


def test_with_two_threads_a_run_repeats_itself_and_sees_the_same_batches(bank, tmp_path, evidence):
    """With other threads PyTorch sums in another order: only runs with the same number of them share their bits."""
    for root in ("first", "second"):
        assert finish(start(words(bank, tmp_path / root, "seed=0", "threads=2", "trainer.max_epochs=1"))) == 0
    first, second = outcomes(tmp_path / "first"), outcomes(tmp_path / "second")
    assert first == second
    evidence(checked=2)


def test_the_order_of_videos_depends_on_the_seed_alone(bank):
    orders = [[batch.ids for batch in AVVPDataModule(bank, 5, seed=seed).train_dataloader()] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
