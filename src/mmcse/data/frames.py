"""Networks that need the frames of a video, and banks that hold only averages of them."""

import logging
from collections.abc import Callable

from torch import nn

from mmcse.data.bank import FeatureBank
from mmcse.data.layouts import LAYOUTS
from mmcse.data.manifest import TOKENS
from mmcse.errors import UserError

log = logging.getLogger(__name__)


def reads_frames(network: Callable[..., nn.Module]) -> bool:
    """Whether a kind of network activates frames before it averages them to segments, and says so."""
    return getattr(network, "reads_frames", False)


def check_frames(network: Callable[..., nn.Module], bank: FeatureBank) -> None:
    """Refuse a bank of averaged frames to a network that reads frames; where there never were any, say so.

    Raises:
        UserError: the bank was made of frames, and does not have them.
    """
    visual = bank.split(bank.splits[0]).arrays["visual"]
    if not reads_frames(network) or visual.shape[1] != bank.num_segments:
        return
    if bank.kind == "simulated":
        log.warning(
            "%s activates the frames of a segment before it averages them, and simulated features have no frames: "
            "here it activates one vector for each segment.",
            network.__name__,
        )
    elif _is_averaged(bank):
        raise UserError(
            f"{network.__name__} activates frames before it averages them, so it needs all of them, and {bank.folder} "
            "holds averages. Use data=llp_vggish_resnet_frames (or data.bank.tokens=stored, and another "
            "data.bank.folder for it)."
        )


def _is_averaged(bank: FeatureBank) -> bool:
    """Whether the layout that a bank was made of has frames, and the bank was not to keep them."""
    with_frames = [each.name for each in LAYOUTS for s in each.features if s.name == "visual" and s.tokens]
    return TOKENS not in bank.source and bank.source.get("layout") in with_frames
