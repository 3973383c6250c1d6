"""SimLLP: simulated data with the label structure of LLP and the problem that MM-CSE solves in it.

Labels follow statistics counted from LLP's annotations, pseudo labels err as VALOR's do, and features mix the events of
a segment with its scene. Scores on simulated data compare methods under these assumptions; they say nothing about LLP.
"""

from mmcse.data.simllp.settings import PRESETS, SimLLPSettings
from mmcse.data.simllp.simulate import SimulatedSplit, simulate
from mmcse.data.simllp.storage import simulated_bank, write_valor_layout

__all__ = ["PRESETS", "SimLLPSettings", "SimulatedSplit", "simulate", "simulated_bank", "write_valor_layout"]
