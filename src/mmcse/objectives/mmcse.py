"""The objective of MM-CSE (equation 12)."""

from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.errors import UserError
from mmcse.objectives.classification import basic_losses, pseudo_labels
from mmcse.objectives.cooccurrence import cooccurrence_loss
from mmcse.objectives.orthogonality import VisualOrthogonality, orthogonality_loss
from mmcse.objectives.reconstruction import reconstruction_loss


class MMCSEObjective:
    """L_basic + L_rec + lambda_1 L_ort + lambda_2 L_co.

    Args:
        reconstruction: weight of the reconstruction loss.
        orthogonality: lambda_1.
        cooccurrence: lambda_2.
        visual_orthogonality: which cosine the visual half of L_ort uses.

    A weight of 0 leaves the term out (Tables 4 and 6), and a term whose features the network does not have (Tables 2
    and 3) is absent from the result, too; it is never reported as zero.
    """

    mean_over_videos = True

    def __init__(
        self,
        reconstruction: float = 1.0,
        orthogonality: float = 0.1,
        cooccurrence: float = 0.1,
        visual_orthogonality: VisualOrthogonality = "class_mean",
    ) -> None:
        if visual_orthogonality not in ("class_mean", "per_class"):
            raise UserError(f"visual_orthogonality is {visual_orthogonality!r}; expected 'class_mean' or 'per_class'.")
        self.weights = {
            "reconstruction": reconstruction,
            "orthogonality": orthogonality,
            "cooccurrence": cooccurrence,
        }
        self.visual_orthogonality: VisualOrthogonality = visual_orthogonality

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """Every term before its weight, and their weighted sum as "total"."""
        terms = basic_losses(out, batch)
        total = terms["video"] + terms["segment_audio"] + terms["segment_visual"]
        for name, term in self._auxiliary(out, batch).items():
            terms[name] = term
            total = total + self.weights[name] * term
        return {"total": total, **terms}

    def _auxiliary(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        if self.weights["reconstruction"] and out.reconstruction is not None and out.holistic is not None:
            terms["reconstruction"] = reconstruction_loss(out.reconstruction, out.holistic)
        if self.weights["orthogonality"] and out.event_features is not None and out.background_features is not None:
            terms["orthogonality"] = orthogonality_loss(
                out.event_features, out.background_features, self.visual_orthogonality
            )
        if self.weights["cooccurrence"] and out.cooccurrence:
            terms["cooccurrence"] = cooccurrence_loss(out.cooccurrence, *pseudo_labels(batch))
        return terms
