"""The objective of LFAV (Hou et al., ACM TOMM 2024): labels of the modalities at every stage, and of their events."""

from typing import Literal

import torch
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models.lfav import LFAVOutput
from mmcse.objectives.classification import check_smoothing, smoothed, video_loss


class LFAVObjective:
    """Cross-entropies of the three stages and of the events; those of stage 3 join after a warm-up.

    Args:
        third: weight of stage 3's video-level loss.
        event: weight of the event losses.
        warm_up: epochs without the terms of stage 3.
        labels: "modality" takes the batch's `weak_audio` and `weak_visual`, as LFAV's own data has them; "weak" takes
            the video's label, smoothed for visual.
        visual_smoothing: of the visual label, where labels are weak.

    `on_train_batch_start` says which epoch it is; before it is first called, the warm-up is over.

    Raises:
        UserError: an unknown kind of labels, or a value outside its range.
    """

    def __init__(
        self,
        third: float = 1.0,
        event: float = 0.3,
        warm_up: int = 6,
        labels: Literal["weak", "modality"] = "weak",
        visual_smoothing: float = 0.1,
    ) -> None:
        if labels not in ("weak", "modality"):
            raise UserError(f"labels is {labels!r}; expected 'weak' or 'modality'.")
        if warm_up < 0:
            raise UserError(f"warm_up is {warm_up}; expected a number of epochs.")
        check_smoothing(visual_smoothing=visual_smoothing)
        self.third, self.event, self.warm_up = third, event, warm_up
        self.labels, self.visual_smoothing = labels, visual_smoothing
        self.warming_up = False

    def on_train_batch_start(self, epoch: int, batch: int, num_batches: int) -> None:
        """Take note of which batch of which epoch comes next; all numbers from 0."""
        self.warming_up = epoch < self.warm_up

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "stage1", "stage2", "stage3", "event_audio" and "event_visual" before their weights, and "total".

        An event term is absent where no video of the batch has an event of that modality.

        Raises:
            UserError: labels are "modality" and the batch has none, or the output is not of LFAV's network.
        """
        if not isinstance(out, LFAVOutput) or out.events is None:
            raise UserError("The objective of LFAV needs events. Use the network of LFAV (model=lfav).")
        target = self._targets(batch)  # (B, 2, K)
        second = torch.stack((out.audio_prob, out.visual_prob), dim=1)
        probabilities = {"stage1": out.first.prob, "stage2": second, "stage3": out.events.reweighted_prob}
        terms = {name: _both(prob, target) for name, prob in probabilities.items()}
        for index, name in enumerate(("event_audio", "event_visual")):
            if (exists := out.events.exists[:, index]).any():
                terms[name] = video_loss(out.events.related_prob[:, index][exists], target[:, index][exists])
        weights = {"stage1": 1.0, "stage2": 1.0}
        if not self.warming_up:  # left out rather than weighed by 0: stage 3 is not to see a gradient of 0
            weights |= {"stage3": self.third, "event_audio": self.event, "event_visual": self.event}
        total = torch.stack([weight * terms[name] for name, weight in weights.items() if name in terms]).sum()
        return {"total": total, **terms}

    def _targets(self, batch: Batch) -> Tensor:
        if self.labels == "weak":
            return torch.stack((batch.weak, smoothed(batch.weak, self.visual_smoothing)), dim=1)
        if batch.weak_audio is None or batch.weak_visual is None:
            raise UserError("This objective needs a video label of each modality, and the batch has none.")
        return torch.stack((batch.weak_audio, batch.weak_visual), dim=1)


def _both(prob: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of audio plus that of visual, (B, 2, K) each."""
    return video_loss(prob[:, 0], target[:, 0]) + video_loss(prob[:, 1], target[:, 1])
