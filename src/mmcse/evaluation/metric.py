"""The scores as a torchmetrics metric, for batches, epochs and processes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mmcse.errors import UserError
from mmcse.evaluation.fscores import (
    SCORE_KEYS,
    FloatArray,
    class_table,
    mean_scores,
    parsing_counts,
    per_video_scores,
    video_counts,
    video_scores,
)

_NO_SCORES = np.empty((0, len(SCORE_KEYS)))


class ParsingMetric(Metric):
    """Audio-visual video parsing scores over the videos of an epoch.

    The result is that of `parsing_scores` on all videos at once, to the last bit, however they are split into
    batches and processes. Every video must be seen once: a sampler that pads its last batch counts videos twice.

    The metric is one, and not a collection of one per score, because torchmetrics merges the members of a collection
    whose first states happen to be equal.

    Args:
        num_classes: K.
        **kwargs: see `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    rows: list[Tensor]
    """(B, 10) scores of the videos of each batch, see `_pack`."""
    counts: Tensor
    """(2, 3, 3, K) counts of `parsing_counts`, summed over videos."""
    weak_counts: Tensor
    """(3, K) counts of `video_counts`, summed over the videos that came with a weak label."""
    labelled: Tensor
    """Number of videos that came with a weak label."""

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("counts", torch.zeros(2, 3, 3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("weak_counts", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("labelled", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        pred_audio: Tensor,
        pred_visual: Tensor,
        true_audio: Tensor,
        true_visual: Tensor,
        *,
        video_pred: Tensor | None = None,
        weak: Tensor | None = None,
    ) -> None:
        """Add a batch of videos.

        Args:
            pred_audio: (B, T, K) decisions: the event is heard in the segment.
            pred_visual: (B, T, K) decisions: the event is seen in the segment.
            true_audio: (B, T, K) annotated audible events.
            true_visual: (B, T, K) annotated visible events.
            video_pred: (B, K) decisions: the video holds the event.
            weak: (B, K) weak labels; needed with `video_pred`.

        Raises:
            UserError: shapes differ, K is not that of the metric, a value is neither 0 nor 1, or only one of
                `video_pred` and `weak` is given.
        """
        counts = parsing_counts(pred_audio, pred_visual, true_audio, true_visual)
        if counts.shape[-1] != self.num_classes:
            raise UserError(f"The batch has {counts.shape[-1]} classes; the metric was made for {self.num_classes}.")
        if (video_pred is None) != (weak is None):
            raise UserError("The video-level F1 needs both `video_pred` and `weak`; only one was given.")
        self.rows.append(self._pack(per_video_scores(counts)))
        self.counts += torch.from_numpy(counts.sum(axis=0)).to(self.device)
        if video_pred is not None and weak is not None:
            self.weak_counts += torch.from_numpy(video_counts(video_pred, weak)).to(self.device)
            self.labelled += len(weak)

    def compute(self) -> dict[str, float]:
        """Average over all videos.

        Returns:
            The eleven percentages of `parsing_scores`, and `video/F1` and `video/F1_macro` of `video_level_f1`
            where weak labels were given.

        Raises:
            UserError: no video was added.
        """
        scores = mean_scores(self.per_video())
        return scores | video_scores(self.weak_counts.cpu().numpy()) if self.labelled else scores

    def per_video(self) -> FloatArray:
        """Scores of the videos of this process in the order they were added, (n, 10) as `per_video_scores`."""
        rows = dim_zero_cat(self.rows) if len(self.rows) else self._pack(_NO_SCORES)
        return rows.cpu().view(torch.float64).numpy()

    def per_class(self) -> dict[str, dict[str, np.ndarray]]:
        """Counts and F-scores of each class over all videos, as `per_class_scores` returns them.

        A collective call: with several processes, each must make it.
        """
        with self.sync_context():
            return class_table(self.counts.cpu().numpy())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes (called by torchmetrics)."""
        if not len(self.rows):
            # A process without a video must join the gather with the axes and the type of the others, which
            # torchmetrics' own stand-in for an empty list has not.
            self.rows = [self._pack(_NO_SCORES)]
        super().sync(*args, **kwargs)

    def _pack(self, scores: FloatArray) -> Tensor:
        """Double precision as the integers of the same bits: not every device (MPS) has doubles."""
        return torch.from_numpy(scores).view(torch.int64).to(self.device)
