"""What networks are trained for: one small module per loss term, one objective per method composed of them.

An objective maps a network's output and a batch to named losses; "total" is what the optimiser minimises.
"""

from mmcse.objectives.han import HANObjective
from mmcse.objectives.mmcse import MMCSEObjective
from mmcse.objectives.valor import VALORObjective

__all__ = ["HANObjective", "MMCSEObjective", "VALORObjective"]
