"""What happens around training, one callback a file."""

from mmcse.callbacks.card import RunCard
from mmcse.callbacks.divergence import Divergence
from mmcse.callbacks.history import History
from mmcse.callbacks.kept import BestOf, EarlyEpoch
from mmcse.callbacks.lines import EpochLines
from mmcse.callbacks.patience import Patience
from mmcse.callbacks.seeds import EpochSeeds

__all__ = ["BestOf", "Divergence", "EarlyEpoch", "EpochLines", "EpochSeeds", "History", "Patience", "RunCard"]
