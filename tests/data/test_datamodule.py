"""Batches from a bank: every video once, in an order that seed and epoch decide, shared out among processes."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcse.data import AVVPDataModule, BankWriter, FeatureBank, datamodule
from mmcse.data.datamodule import BatchSampler
from mmcse.errors import UserError

SIZES = {"train": 11, "val": 5, "test": 7}
WIDTHS = {"audio": 4, "visual": 3, "motion": 2}
T, CLASSES = 6, ("one", "two", "three")

counts, seeds, epochs, batch_sizes = st.integers(1, 200), st.integers(0, 2**32), st.integers(0, 100), st.integers(1, 70)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A bank whose test split alone has the original truth of audible events, too."""
    rng = np.random.default_rng(0)
    writer = BankWriter(
        tmp_path_factory.mktemp("banks") / "bank", kind="fixture", source={}, classes=CLASSES, num_segments=T
    )
    for split, count in SIZES.items():
        writer.put(split, "ids", np.array([f"{split}-{i:06d}" for i in range(count)]))
        writer.put(split, "weak", rng.random((count, len(CLASSES))) < 0.5)
        for stream, width in WIDTHS.items():
            writer.put(split, stream, rng.standard_normal((count, T, width)).astype(np.float32))
        names = ["pseudo_audio", "pseudo_visual"]
        names += ["true_audio", "true_visual"] * (split != "train") + ["true_audio_original"] * (split == "test")
        for name in names:
            writer.put(split, name, rng.random((count, T, len(CLASSES))) < 0.5)
    return writer.finish()


@pytest.fixture
def processes(monkeypatch):
    """Let samplers believe that they run in process `rank` of `count`."""

    def pretend(rank, count):
        group = SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: rank, get_world_size=lambda: count)
        monkeypatch.setattr(datamodule, "dist", group)

    return pretend


def rows(sampler):
    return [batch.tolist() for batch in sampler]


def flat(sampler):
    return [row for batch in rows(sampler) for row in batch]


def assert_same(ours, theirs):
    assert ours.ids == theirs.ids
    for field in fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert (a is None and b is None) or a == b if not isinstance(a, torch.Tensor) else torch.equal(a, b), field.name


class TestOneProcess:
    @given(counts, batch_sizes, seeds, epochs)
    def test_every_video_once_an_epoch(self, count, batch_size, seed, epoch):
        sampler = BatchSampler(count, batch_size, seed, epoch)
        batches = rows(sampler)
        assert sorted(flat(sampler)) == list(range(count))
        assert len(batches) == len(sampler)
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert 1 <= len(batches[-1]) <= batch_size

    @given(counts, batch_sizes, seeds, epochs)
    def test_whole_batches_alone(self, count, batch_size, seed, epoch):
        every = rows(BatchSampler(count, batch_size, seed, epoch))
        sampler = BatchSampler(count, batch_size, seed, epoch, drop_last=True)
        whole = [batch for batch in every if len(batch) == batch_size]
        assert len(sampler) == len(whole)
        assert rows(sampler) == whole

    @given(counts, batch_sizes)
    def test_without_a_seed_the_order_is_the_split(self, count, batch_size):
        sampler = BatchSampler(count, batch_size)
        sampler.set_epoch(3)
        assert flat(sampler) == list(range(count))

    @given(st.integers(20, 200), st.tuples(batch_sizes, batch_sizes), seeds, epochs)
    def test_the_order_depends_on_seed_and_epoch_alone(self, count, sizes, seed, epoch):
        here, there = BatchSampler(count, sizes[0], seed, epoch), BatchSampler(count, sizes[1], seed)
        np.random.seed(epoch)  # noqa: NPY002 - nobody's global generator matters
        torch.manual_seed(epoch)
        there.set_epoch(epoch)
        assert flat(here) == flat(here) == flat(there)
        assert flat(here) != flat(BatchSampler(count, sizes[0], seed, epoch + 1))
        assert flat(here) != flat(BatchSampler(count, sizes[0], seed + 1, epoch))


class TestProcesses:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    @pytest.mark.parametrize("videos", [5, 11, 12])
    def test_training_shares_are_disjoint_and_of_one_length(self, processes, count, videos):
        shares = []
        for rank in range(count):
            processes(rank, count)
            sampler = BatchSampler(videos, 2, shuffle_seed=1, epoch=4)
            shares.append(flat(sampler))
            assert len(rows(sampler)) == len(sampler)
        together = [row for share in shares for row in share]
        assert len({len(share) for share in shares}) == 1
        assert len(set(together)) == len(together) == videos // count * count

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
    def test_evaluation_sees_every_video_and_none_twice(self, processes, count):
        seen = []
        for rank in range(count):
            processes(rank, count)
            seen += flat(BatchSampler(7, 2))
        assert sorted(seen) == list(range(7))

    def test_the_videos_left_out_of_training_differ_from_epoch_to_epoch(self, processes):
        left_out = set()
        for epoch in range(20):
            seen = set()
            for rank in range(2):
                processes(rank, 2)
                seen |= set(flat(BatchSampler(5, 2, shuffle_seed=0, epoch=epoch)))
            left_out |= set(range(5)) - seen
        assert len(left_out) > 1


class TestDataModule:
    @pytest.mark.parametrize("split", list(SIZES))
    @pytest.mark.parametrize("in_memory", [False, True])
    def test_batches_are_the_rows_of_the_bank(self, bank, split, in_memory):
        data = AVVPDataModule(FeatureBank.open(bank.folder, in_memory=in_memory), batch_size=4, eval_batch_size=4)
        arrays, ids = bank.split(split).arrays, bank.split(split).ids
        seen = []
        for batch in getattr(data, f"{split}_dataloader")():
            at = [ids.index(video) for video in batch.ids]
            seen += at
            for name in ("audio", "visual", "motion", "weak", "pseudo_audio", "pseudo_visual"):
                tensor = getattr(batch, name)
                assert tensor.dtype == torch.float32
                np.testing.assert_array_equal(tensor.numpy(), arrays[name][at].astype(np.float32))
            if split == "train":
                assert batch.true_audio is None
                assert batch.true_visual is None
            else:
                np.testing.assert_array_equal(batch.true_audio.numpy(), arrays[data.true_audio(split)][at])
        assert sorted(seen) == list(range(SIZES[split]))
        assert (seen == sorted(seen)) == (split != "train")

    def test_an_incomplete_last_batch_is_dropped_in_training_alone(self, bank):
        size = SIZES["train"] - 1
        for drop_last, batches in ((True, [size]), (False, [size, 1])):
            data = AVVPDataModule(bank, batch_size=size, eval_batch_size=2, drop_last=drop_last)
            assert [len(batch) for batch in data.train_dataloader()] == batches
            assert sum(len(batch) for batch in data.val_dataloader()) == SIZES["val"]
            assert sum(len(batch) for batch in data.test_dataloader()) == SIZES["test"]
        with pytest.raises(UserError, match=r"no whole batch of 99 videos.* data\.drop_last=false"):
            AVVPDataModule(bank, batch_size=99, drop_last=True).train_dataloader()

    def test_the_seed_decides_the_order_of_training(self, bank):
        def order(seed, epoch=0):
            loader = AVVPDataModule(bank, batch_size=4, seed=seed).train_dataloader()
            loader.sampler.set_epoch(epoch)
            return [batch.ids for batch in loader]

        assert order(0) == order(0)
        assert order(0) != order(1)
        assert order(0) != order(0, epoch=1)

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_worker_processes_give_the_same_batches(self, bank, split):
        alone, helped = (
            getattr(AVVPDataModule(bank, batch_size=3, eval_batch_size=3, num_workers=workers), f"{split}_dataloader")()
            for workers in (0, 2)
        )
        for epoch in range(2):
            for loader in (alone, helped):
                loader.sampler.set_epoch(epoch)
            batches = list(zip(alone, helped, strict=True))
            assert len(batches) == -(-SIZES[split] // 3)
            for ours, theirs in batches:
                assert_same(ours, theirs)

    def test_a_resumed_run_begins_with_the_order_of_its_next_epoch(self, bank):
        before = AVVPDataModule(bank, batch_size=4)
        before.trainer = SimpleNamespace(current_epoch=6)
        state = before.state_dict()
        after = AVVPDataModule(bank, batch_size=4)
        after.load_state_dict(state)
        expected = before.train_dataloader()
        expected.sampler.set_epoch(7)
        assert [batch.ids for batch in after.train_dataloader()] == [batch.ids for batch in expected]

    def test_a_new_run_begins_with_the_first_epoch(self, bank):
        assert AVVPDataModule(bank).state_dict() == {"next_epoch": 0}

    def test_audio_truth_is_the_original_where_there_is_one(self, bank):
        original, corrected = (AVVPDataModule(bank, audio_truth=truth) for truth in ("original", "corrected"))
        assert original.true_audio("test") == "true_audio_original"
        assert original.true_audio("val") == corrected.true_audio("val") == corrected.true_audio("test") == "true_audio"
        [first], [second] = original.test_dataloader(), corrected.test_dataloader()
        arrays = bank.split("test").arrays
        np.testing.assert_array_equal(first.true_audio.numpy(), arrays["true_audio_original"])
        np.testing.assert_array_equal(second.true_audio.numpy(), arrays["true_audio"])
        assert not torch.equal(first.true_audio, second.true_audio)
        assert torch.equal(first.true_visual, second.true_visual)

    @pytest.mark.parametrize(("kind", "warned"), [("real", True), ("simulated", False)])
    def test_real_data_without_the_original_truth_are_warned_about(self, smoke_bank, monkeypatch, caplog, kind, warned):
        bank = FeatureBank.open(smoke_bank)
        monkeypatch.setattr(bank, "kind", kind)
        AVVPDataModule(bank)
        assert ("scores are against the corrected file" in caplog.text) == warned
        AVVPDataModule(bank, audio_truth="corrected")
        assert caplog.text.count("corrected file") == int(warned)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"batch_size": 0}, "at least 1; found 0 and 64"),
            ({"eval_batch_size": -2}, "at least 1; found 64 and -2"),
            ({"num_workers": -1}, "must not be negative; found -1 and 0"),
            ({"seed": -3}, "must not be negative; found 0 and -3"),
            ({"audio_truth": "mended"}, "expected 'original' or 'corrected'"),
        ],
    )
    def test_impossible_settings_are_refused(self, bank, settings, said):
        with pytest.raises(UserError, match=said):
            AVVPDataModule(bank, **settings)

    def test_a_folder_that_is_no_bank_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="There is no feature bank"):
            AVVPDataModule(tmp_path)
