"""MA's network (Wu and Yang, CVPR 2021): HAN's, in all three steps of the method.

What is new of the method are the contrast of segments and its labels; see `mmcse.objectives.ma`.
"""

from collections.abc import Mapping

from mmcse.models.hybrid import HAN
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import unused_reference_names


@known_by("ma", HYBRID_MARKS | {"fc_st", "audio_encoder", "t_att"}, sizes=HYBRID_SIZES)
class MA(HAN):
    """HAN under a name of its own, because its reference checkpoints hold more parameters that are never used.

    Arguments and output are those of `HAN`. The contrast of segments compares audio after the encoder
    (`HybridOutput.encoded`) with visual before it (`HybridOutput.projected`).
    """


@unused_reference_names.register
def _(network: MA) -> Mapping[str, tuple[int, ...]]:
    width = network.head.event.in_features
    unused = dict(unused_reference_names.dispatch(HAN)(network))
    for module in ("t_att", "t_att2"):
        for linear in ("w_qs", "w_ks", "w_vs", "fc"):
            unused |= {f"{module}.{linear}.weight": (width, width), f"{module}.{linear}.bias": (width,)}
        unused |= {f"{module}.layer_norm.{part}": (width,) for part in ("gamma", "beta")}
    unused |= {"fc1.weight": (width // 2, 2 * width), "fc1.bias": (width // 2,)}
    return unused | {"fc2.weight": (2, width // 2), "fc2.bias": (2,)}
