"""The objective of MGN (NeurIPS 2022): weak labels, and class tokens that are told apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.models.mgn import MGNOutput
from mmcse.objectives.han import HANObjective


def token_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of class tokens, the k-th of which is to be recognised as class k.

    Args:
        logits: (K, K); rows are tokens.
    """
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class MGNObjective:
    """HAN's three terms, and the cross-entropy of the class tokens of each modality.

    Args:
        visual_smoothing: as in `HANObjective`.

    Raises:
        UserError: the smoothing lies outside [0, 1].
    """

    mean_over_videos = True  # the token terms are the same for all videos

    def __init__(self, visual_smoothing: float = 0.1) -> None:
        self.weak = HANObjective(visual_smoothing)

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms of `HANObjective`, "token_audio" and "token_visual", and their sum as "total".

        Raises:
            UserError: the output is not of MGN's network.
        """
        if not isinstance(out, MGNOutput):
            raise UserError("The objective of MGN needs class tokens. Use the network of MGN (model=mgn).")
        audio, visual = (token_loss(logits) for logits in out.token_logits)
        terms = self.weak(out, batch)
        return terms | {"token_audio": audio, "token_visual": visual, "total": terms["total"] + audio + visual}
