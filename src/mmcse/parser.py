"""The LightningModule: a network, its objective, its decoding and its optimiser, and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import DivergedError, UserError
from mmcse.evaluation.decode import Gate, decode_output, gate_thresholds
from mmcse.evaluation.metric import ParsingMetric
from mmcse.microbatches import compares_videos, in_pieces
from mmcse.optimizers import parameter_groups

Objective = Callable[[ParserOutput, Batch], dict[str, Tensor]]


class VideoParser(L.LightningModule):
    """Trains and evaluates an audio-visual video parser.

    Logs every loss term as `train/<term>` and every score as `val/<score>` and `test/<score>`.

    Args:
        network: maps features (audio, visual, motion) and the keyword `auxiliary` to a `ParserOutput`.
        objective: maps a `ParserOutput` and a `Batch` to named losses, "total" among them. Where it has them,
            `on_train_batch_start(epoch, batch, num_batches)` tells it which training batch comes next, all counted
            from 0, and `augment(batch)` says what the network is given in its place.
        num_classes: K.
        optimizer: makes the optimiser from the parameters; None for a parser that is only evaluated.
        scheduler: makes the schedule from the optimiser, stepped every epoch; None keeps the rate constant.
        gate: which video-level probabilities gate the segments of audio and visual.
        threshold: least probability of a decision at segment level.
        gate_threshold: least video-level probability; None: `threshold`.
        visual_thresholds: K least video-level probabilities in the gate of the visual segments, instead.
        rates: learning rates of parts of the network, see `parameter_groups`.
        micro_batch: on a CPU, so many videos at a time go through the network in training, with the same gradient
            (see `mmcse.microbatches`), where the objective is a mean over videos and says so by `mean_over_videos`,
            and the network treats each video alone. None takes the whole batch.

    Raises:
        UserError: an unknown gate.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        num_classes: int,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        gate: Gate = "video/visual",
        threshold: float = 0.5,
        micro_batch: int | None = None,
        gate_threshold: float | None = None,
        visual_thresholds: Sequence[float] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if gate not in get_args(Gate):
            raise UserError(f"The gate is {gate!r}; expected one of {', '.join(get_args(Gate))}.")
        self.network, self.objective = network, objective
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.gate: Gate = gate
        self.threshold = threshold
        self.gate_threshold = threshold if gate_threshold is None else gate_threshold
        self.visual_thresholds = visual_thresholds
        self.rates = rates
        separable = getattr(objective, "mean_over_videos", False) and not compares_videos(network)
        self.micro_batch = micro_batch if separable else None
        self.val_metric, self.test_metric = ParsingMetric(num_classes), ParsingMetric(num_classes)
        self.per_class: dict[str, dict[str, np.ndarray]] = {}

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> ParserOutput:
        """Parse videos; the output holds what inference needs."""
        return self.network(audio, visual, motion, auxiliary=False)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tells an objective that asks for it which batch comes next."""
        if hook := getattr(self.objective, "on_train_batch_start", None):
            hook(self.current_epoch, batch_idx, int(self.trainer.num_training_batches))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Losses of a batch."""
        if augment := getattr(self.objective, "augment", None):
            batch = augment(batch)
        if self.micro_batch and self.device.type == "cpu" and len(batch) > self.micro_batch:
            parameters = [p for p in self.network.parameters() if p.requires_grad]
            losses = in_pieces(lambda piece: self._losses(piece, batch_idx), batch, self.micro_batch, parameters)
        else:
            losses = self._losses(batch, batch_idx)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()}, on_step=False, on_epoch=True,
                      batch_size=len(batch), sync_dist=True)  # fmt: skip
        self.log("loss", losses["total"].detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return losses["total"]

    def _losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        out = self.network(batch.audio, batch.visual, batch.motion)
        if not out.segment_logits.isfinite().all():
            raise DivergedError("the network's output is", self.current_epoch, batch_idx, batch.ids)
        losses = self.objective(out, batch)
        if not losses["total"].isfinite():
            wrong = [name for name, loss in losses.items() if not loss.isfinite()]
            raise DivergedError(f"the losses ({', '.join(wrong)}) are", self.current_epoch, batch_idx, batch.ids)
        return losses

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds a batch to the validation scores."""
        self._score(batch, self.val_metric)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds a batch to the test scores."""
        self._score(batch, self.test_metric)

    def on_validation_epoch_end(self) -> None:
        """Logs the validation scores."""
        self._log_scores("val", self.val_metric)

    def on_test_epoch_end(self) -> None:
        """Logs the test scores, and keeps those of each class in `per_class`."""
        self.per_class = self.test_metric.per_class()
        self._log_scores("test", self.test_metric)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[tuple[str, ...], Tensor, Tensor]:
        """Ids of the videos and decisions (B, T, K) for audio and visual."""
        return batch.ids, *self.decide(self(batch.audio, batch.visual, batch.motion))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and, where there is one, its schedule."""
        if self.make_optimizer is None:
            raise ValueError("This parser was made without an optimiser; it can only be evaluated.")
        try:
            optimizer = self.make_optimizer(parameter_groups(self.network, self.rates))
        except ValueError as error:  # how the optimisers of PyTorch refuse a value
            raise UserError(f"The optimizer cannot be made: {error}.") from error
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def decide(self, out: ParserOutput) -> tuple[Tensor, Tensor]:
        """Decisions (B, T, K) for audio and visual by this parser's gate and thresholds."""
        own = {"gate_threshold": self.gate_threshold, "visual_thresholds": self.visual_thresholds}
        gate_threshold = gate_thresholds(self.threshold, own)
        return decode_output(out, gate=self.gate, threshold=self.threshold, gate_threshold=gate_threshold)

    def _score(self, batch: Batch, metric: ParsingMetric) -> None:
        if batch.true_audio is None or batch.true_visual is None:
            raise UserError("Scores need the annotation of every segment, and this split has none.")
        out = self(batch.audio, batch.visual, batch.motion)
        metric.update(*self.decide(out), batch.true_audio, batch.true_visual,
                      video_pred=out.video_prob >= self.gate_threshold, weak=batch.weak)  # fmt: skip

    def _log_scores(self, stage: str, metric: ParsingMetric) -> None:
        scores = metric.compute()  # the same on every process
        metric.reset()
        # as doubles: a plain float would be logged in single precision
        self.log_dict({f"{stage}/{name}": torch.tensor(s, dtype=torch.float64) for name, s in scores.items()})
        if stage == "val":
            self.log("Type", scores["segment/Type"], prog_bar=True, logger=False)
