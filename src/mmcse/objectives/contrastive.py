"""Contrast of segments across modalities: what is heard in a segment goes with what is seen in the same one.

MA, JoMoLD and CMPAE train such a term on the segments of one video; they differ in which features they compare and in
where the logarithm stands.
"""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import ParserOutput
from mmcse.errors import UserError
from mmcse.models.hybrid import HybridOutput

ContrastForm = Literal["mixture", "cross_entropy"]
"""Logarithm of the smoothed mixture of probabilities (JoMoLD, CMPAE), or smoothed cross-entropy (MA)."""


def segment_similarities(audio: Tensor, visual: Tensor, temperature: float = 0.2) -> Tensor:
    """Cosine of each audio segment (rows) with each visual segment (columns) of its video, over the temperature.

    Args:
        audio: (B, T, D) segment features.
        visual: (B, T, D) segment features.
        temperature: above 0.

    Returns:
        (B, T, T) logits; those of segments that go together lie on the diagonal.
    """
    return F.normalize(audio, dim=-1) @ F.normalize(visual, dim=-1).mT / temperature


def contrastive_loss(logits: Tensor, smoothing: float = 0.1, form: ContrastForm = "mixture") -> Tensor:
    """Mean over all rows of the loss that asks each row for its diagonal entry.

    A row's own segment has the target 1 - e, each of the T - 1 others e / (T - 1). With p the softmax of the row,
    "cross_entropy" is the usual -sum_s target_s log p_s; "mixture" is -log sum_s target_s p_s, which no longer
    punishes a small p_s of the others.

    Args:
        logits: (B, T, T) from `segment_similarities`.
        smoothing: e.
        form: where the logarithm stands.

    Raises:
        UserError: an unknown form.
    """
    if form not in get_args(ContrastForm):
        raise UserError(f"form is {form!r}; expected {' or '.join(map(repr, get_args(ContrastForm)))}.")
    rows = logits.softmax(dim=-1) if form == "mixture" else logits.log_softmax(dim=-1)
    own = rows.diagonal(dim1=-2, dim2=-1)
    others = (rows.sum(dim=-1) - own) / max(1, rows.shape[-1] - 1)  # their mean, 0 where there are none
    mixed = (1 - smoothing) * own + smoothing * others
    return -(mixed.log() if form == "mixture" else mixed).mean()


def hybrid_output(out: ParserOutput) -> HybridOutput:
    """The same output, known to hold the features that the contrast compares.

    Raises:
        UserError: it does not.
    """
    if not isinstance(out, HybridOutput):
        raise UserError(
            "The contrastive loss compares segment features of a hybrid attention encoder, and this network's output "
            "has none. Use the network of the same method, or leave the loss out (weight 0)."
        )
    return out
