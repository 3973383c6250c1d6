"""The objective of HAN: the weak label of the video supervises each modality, too."""

from torch import Tensor

from mmcse.batch import Batch, ParserOutput
from mmcse.objectives.classification import check_smoothing, modality_labels, modality_target, video_loss


class HANObjective:
    """Multi-instance loss of the video and individual-guided losses of its modalities (HAN, section 4.4).

    An event of a video need not be visible: the label that guides the visual modality is smoothed towards 1/2. Where
    the labels of the modalities were refined (`data.label_changes`), each is guided by its own, and the visual label
    is exactly 0 for an event that was removed; the video keeps its weak label.

    Args:
        visual_smoothing: epsilon; the visual label is (1 - epsilon) y + epsilon / 2.

    Raises:
        UserError: epsilon lies outside [0, 1].
    """

    mean_over_videos = True

    def __init__(self, visual_smoothing: float = 0.1) -> None:
        check_smoothing(visual_smoothing=visual_smoothing)
        self.visual_smoothing = visual_smoothing

    def __call__(self, out: ParserOutput, batch: Batch) -> dict[str, Tensor]:
        """The terms "video", "audio" and "visual", and their sum as "total"; needs no pseudo labels."""
        audio, visual = modality_labels(batch)
        terms = {
            "video": video_loss(out.video_prob, batch.weak),
            "audio": video_loss(out.audio_prob, audio),
            "visual": video_loss(out.visual_prob, modality_target(batch.weak, visual, self.visual_smoothing)),
        }
        return {"total": terms["video"] + terms["audio"] + terms["visual"], **terms}
