"""What networks are trained for: one small module per loss term, one objective per method composed of them.

An objective maps a network's output and a batch to named losses; "total" is what the optimiser minimises.
"""

from mmcse.objectives.cmpae import CMPAEObjective
from mmcse.objectives.cvcms import CVCMSObjective
from mmcse.objectives.dhhn import DHHNObjective
from mmcse.objectives.han import HANObjective
from mmcse.objectives.jomold import JoMoLDObjective
from mmcse.objectives.leap import LEAPObjective
from mmcse.objectives.lfav import LFAVObjective
from mmcse.objectives.lsld import LSLDObjective
from mmcse.objectives.ma import MAObjective
from mmcse.objectives.mgn import MGNObjective
from mmcse.objectives.mmcse import MMCSEObjective
from mmcse.objectives.valor import VALORObjective

__all__ = [
    "CMPAEObjective",
    "CVCMSObjective",
    "DHHNObjective",
    "HANObjective",
    "JoMoLDObjective",
    "LEAPObjective",
    "LFAVObjective",
    "LSLDObjective",
    "MAObjective",
    "MGNObjective",
    "MMCSEObjective",
    "VALORObjective",
]
