"""The objective of VALOR."""

from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.objectives.classification import basic_losses


class VALORObjective:
    """L_basic (equation 7 of the MM-CSE paper): weak labels at video level, pseudo labels at segment level."""

    mean_over_videos = True

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "video", "segment_audio" and "segment_visual", and their sum as "total".

        Raises:
            ValueError: the batch has no pseudo labels.
        """
        terms = basic_losses(out, batch)
        return {"total": terms["video"] + terms["segment_audio"] + terms["segment_visual"], **terms}
