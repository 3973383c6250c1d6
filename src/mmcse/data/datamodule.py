"""Videos of a feature bank as batches: what training, validation and test iterate over."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import cuda
from torch.utils.data import DataLoader, Dataset, Sampler

from mmcse.batch import Batch
from mmcse.data.bank import BankSplit, FeatureBank
from mmcse.data.label_changes import read_label_changes
from mmcse.data.segment_labels import read_segment_labels
from mmcse.errors import UserError

log = logging.getLogger(__name__)


class VideoDataset(Dataset[Batch]):
    """A split of a bank, indexed by whole batches: rows in, `Batch` out, without any work per video.

    Args:
        split: the videos.
        true_audio: the array with their annotated audible events.
        labels: fields of a `Batch` and, for all videos, what is to stand in them instead of what the split has.
    """

    def __init__(
        self, split: BankSplit, true_audio: str = "true_audio", labels: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.split, self.true_audio, self.labels = split, true_audio, labels or {}

    def __len__(self) -> int:
        return len(self.split.ids)

    def __getitem__(self, rows: np.ndarray) -> Batch:
        batch = self.split.gather(rows, self.true_audio)
        labels = {name: torch.from_numpy(array[rows].astype(np.float32)) for name, array in self.labels.items()}
        return replace(batch, **labels) if labels else batch


class BatchSampler(Sampler[np.ndarray]):
    """Rows of the next batch. The order is a function of seed and epoch alone, so that a resumed run repeats it.

    Under several processes each takes every n-th row. In evaluation none is seen twice, though processes may get
    different numbers of rows; in training the last few rows are left out of an epoch where they do not divide.

    Args:
        num_videos: rows of the split.
        batch_size: rows of a batch, on each process.
        shuffle_seed: None keeps the order of the split and all of its rows.
        epoch: the first epoch, counted from 0.
        drop_last: leave out the last batch of an epoch where it is not whole.
    """

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        shuffle_seed: int | None = None,
        epoch: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_videos, self.batch_size, self.shuffle_seed, self.epoch = num_videos, batch_size, shuffle_seed, epoch
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[np.ndarray]:
        rows, batches = self._own_rows(), range(len(self))
        return (rows[batch * self.batch_size : (batch + 1) * self.batch_size] for batch in batches)

    def __len__(self) -> int:
        rows = len(self._own_rows())
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def _own_rows(self) -> np.ndarray:
        rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.shuffle_seed is None:
            return np.arange(rank, self.num_videos, processes)
        order = np.random.default_rng([self.shuffle_seed, self.epoch]).permutation(self.num_videos)
        return order[: self.num_videos // processes * processes][rank::processes]


class AVVPDataModule(L.LightningDataModule):
    """Serves the three splits of a feature bank.

    Args:
        bank: where the features and labels are.
        batch_size: videos of a training batch.
        eval_batch_size: videos of a validation or test batch.
        num_workers: processes that read ahead; 0 reads in the training process, which is fast enough for a bank.
        seed: of the order of training videos.
        audio_truth: which annotation of audible events scores are computed against: "original" is the file that
            published numbers used (where the bank has it), "corrected" the file as it was mended later.
        label_changes: a file of weak labels that training takes away from one modality or the other, see
            `mmcse.data.label_changes`. It fills the batches' `weak_audio` and `weak_visual`.
        segment_labels: a folder of segment labels that training uses in place of the bank's pseudo labels, see
            `mmcse.data.segment_labels`.
        drop_last: leave out the last training batch of an epoch where it is not whole.

    Attributes:
        validated: the split that validation sees; "val" unless someone sets it to "test", see
            `evaluation.select_on_test`.

    Raises:
        UserError: a batch size below one, a negative number of workers or seed, or an unknown `audio_truth`.
    """

    def __init__(
        self,
        bank: FeatureBank | str | Path,
        batch_size: int = 64,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        audio_truth: str = "original",
        label_changes: str | None = None,
        segment_labels: str | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        if min(batch_size, eval_batch_size) < 1:
            raise UserError(f"Batch sizes must be at least 1; found {batch_size} and {eval_batch_size}.")
        if min(num_workers, seed) < 0:
            raise UserError(f"num_workers and seed must not be negative; found {num_workers} and {seed}.")
        if audio_truth not in ("original", "corrected"):
            raise UserError(f"audio_truth is {audio_truth!r}; expected 'original' or 'corrected'.")
        self.bank = bank if isinstance(bank, FeatureBank) else FeatureBank.open(bank)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.audio_truth = seed, audio_truth
        self.label_changes, self.segment_labels, self.drop_last = label_changes, segment_labels, drop_last
        self.validated = "val"
        self._first_epoch = 0
        scored = [self.true_audio(split) for split in self.bank.splits if split != "train"]
        if self.bank.kind == "real" and audio_truth == "original" and "true_audio" in scored:
            log.warning(
                "%s has no annotation of audible events from before its correction, which published numbers used: "
                "scores are against the corrected file. (Put AVVP_eval_audio_original.csv beside the annotations and "
                "prepare again, or say data.audio_truth=corrected.)",
                self.bank.folder,
            )

    def true_audio(self, split: str) -> str:
        """Name of the array with a split's annotated audible events: the asked-for one, or the only one there is."""
        original = "true_audio_original"
        return (
            original if self.audio_truth == "original" and original in self.bank.split(split).arrays else "true_audio"
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training videos in shuffled batches.

        Raises:
            MissingFileError: there is no file of label changes, or no segment labels.
            UserError: these files are not what they should be, or not of these videos; or there is no whole batch, and
                others are left out.
        """
        loader = self._loader("train", self.batch_size, self.seed, self._first_epoch)
        if not len(loader):
            raise UserError(
                f"An epoch has no whole batch of {self.batch_size} videos, and data.drop_last leaves out any other. "
                "Choose a smaller data.batch_size, or data.drop_last=false."
            )
        return loader

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation videos in the order of the split."""
        return self._loader(self.validated, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Test videos in the order of the split."""
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The same as for testing."""
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Where a resumed run goes on: its first batches are drawn before the trainer names the epoch."""
        return {"next_epoch": self.trainer.current_epoch + 1 if self.trainer else 0}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the epoch after the checkpoint's."""
        self._first_epoch = state_dict["next_epoch"]

    def _training_labels(self) -> dict[str, np.ndarray]:
        """What stands in batches of training videos instead of what the bank has."""
        videos, labels = self.bank.split("train"), {}
        if self.label_changes:
            weak = videos.arrays["weak"] > 0
            removed = read_label_changes(self.label_changes, videos.ids, self.bank.classes, weak)
            labels |= {"weak_audio": weak & ~removed.audio, "weak_visual": weak & ~removed.visual}
        if self.segment_labels:
            bank = self.bank
            audio, visual = read_segment_labels(self.segment_labels, videos.ids, bank.classes, bank.num_segments)
            labels |= {"pseudo_audio": audio, "pseudo_visual": visual}
        return labels

    def _loader(self, name: str, batch_size: int, shuffle_seed: int | None = None, epoch: int = 0) -> DataLoader[Batch]:
        labels = self._training_labels() if name == "train" else None
        dataset = VideoDataset(self.bank.split(name), self.true_audio(name), labels)
        return DataLoader(
            dataset,
            sampler=BatchSampler(len(dataset), batch_size, shuffle_seed, epoch, self.drop_last and name == "train"),
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=cuda.is_available(),
        )
