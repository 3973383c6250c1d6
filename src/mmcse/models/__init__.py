"""Networks: plain modules with plain arguments, from features of a video to `mmcse.batch.ParserOutput`."""

from mmcse.models.cmpae import CMPAE
from mmcse.models.cvcms import CVCMS
from mmcse.models.dhhn import DHHN, DHHNPair
from mmcse.models.efficiency import count_parameters
from mmcse.models.hybrid import HAN, VALOR
from mmcse.models.jomold import JoMoLD
from mmcse.models.leap import LEAP
from mmcse.models.lfav import LFAV
from mmcse.models.lsld import LSLD
from mmcse.models.ma import MA
from mmcse.models.mgn import MGN
from mmcse.models.mmcse import MMCSE
from mmcse.models.mmcse_pyramid import MMCSEPyramid
from mmcse.models.mmpyramid import MMPyramid
from mmcse.models.probe import LinearProbe

__all__ = [
    "CMPAE",
    "CVCMS",
    "DHHN",
    "HAN",
    "LEAP",
    "LFAV",
    "LSLD",
    "MA",
    "MGN",
    "MMCSE",
    "VALOR",
    "DHHNPair",
    "JoMoLD",
    "LinearProbe",
    "MMCSEPyramid",
    "MMPyramid",
    "count_parameters",
]
