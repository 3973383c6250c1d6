"""What happens around training, one callback a file."""

from mmcse.callbacks.card import RunCard
from mmcse.callbacks.history import History
from mmcse.callbacks.lines import EpochLines
from mmcse.callbacks.seeds import EpochSeeds

__all__ = ["EpochLines", "EpochSeeds", "History", "RunCard"]
