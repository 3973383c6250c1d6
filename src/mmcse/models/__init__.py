"""Networks: plain modules with plain arguments, from features of a video to `mmcse.batch.ParserOutput`."""

from mmcse.models.mmcse import MMCSE
from mmcse.models.pooling import count_parameters

__all__ = ["MMCSE", "count_parameters"]
