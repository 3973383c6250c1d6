"""Networks: plain modules with plain arguments, from features of a video to `mmcse.batch.ParserOutput`."""

from mmcse.models.efficiency import count_parameters
from mmcse.models.hybrid import HAN, VALOR
from mmcse.models.mmcse import MMCSE
from mmcse.models.probe import LinearProbe

__all__ = ["HAN", "MMCSE", "VALOR", "LinearProbe", "count_parameters"]
