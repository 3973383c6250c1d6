"""CMPAE's network (Gao, Chen and Xu, CVPR 2023): evidence for the presence and for the absence of each event.

For every class there are two logits. Their evidence makes a Beta distribution, whose mean is the probability of the
event and whose width is the uncertainty about it. The video's own probability comes from a branch of its own, before
the encoder. Built on JoMoLD (`mmcse.models.jomold`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcse.errors import UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.dropout import Dropout
from mmcse.models.frontend import FrontEnd, check_segments, to_segments
from mmcse.models.hybrid import hybrid_layers, update_both
from mmcse.models.jomold import JoMoLDOutput
from mmcse.models.linear import Linear
from mmcse.models.recognition import HYBRID_MARKS, HYBRID_SIZES, known_by
from mmcse.models.reference import (
    Names,
    encoder_names,
    linear_names,
    norm_shapes,
    reference_names,
    unused_reference_names,
)

AbsenceContext = Literal["both", "own"]
"""What the absence branch of a modality adds to it: both modalities (reference), or itself alone (ablation)."""

EVIDENCE_BOUND, EVIDENCE_TEMPERATURE = 10.0, 0.8
LEAK = 0.2
"""Negative slope of the LeakyReLUs."""


class Beta(NamedTuple):
    """A Beta distribution over the probability of an event; all of one shape."""

    logit: Tensor
    """Of its mean."""
    prob: Tensor
    """Its mean."""
    uncertainty: Tensor
    """2 / (alpha + beta): one where there is no evidence at all."""


def evidence(logits: Tensor) -> Tensor:
    """Evidence of a logit, exp(clamp(logit) / 0.8), never negative and bounded; any shape to the same shape."""
    return (logits.clamp(-EVIDENCE_BOUND, EVIDENCE_BOUND) / EVIDENCE_TEMPERATURE).exp()


def beta_of(pairs: Tensor) -> Beta:
    """Presence and absence logits (..., 2) to Beta distributions (...)."""
    alpha, beta = (evidence(pairs) + 1).unbind(dim=-1)
    # the sigmoid of log alpha - log beta is alpha / (alpha + beta)
    return Beta(alpha.log() - beta.log(), alpha / (alpha + beta), 2 / (alpha + beta))


@dataclass(frozen=True, kw_only=True)
class CMPAEOutput(JoMoLDOutput):
    """A parsing, and how uncertain the network is about it."""

    video_uncertainty: Tensor
    """(B,) one number for a video."""
    audio_uncertainty: Tensor
    """(B, K) of the audio probabilities."""
    visual_uncertainty: Tensor
    """(B, K) of the visual probabilities."""
    segment_uncertainty: Tensor
    """(B, T, 2, K) of the segment probabilities."""


class EluFrontEnd(FrontEnd):
    """The front end with an ELU after every linear layer, and so before frames are averaged to segments.

    A bank must hold the frames for that (`data=llp_vggish_resnet_frames`); of one with a vector per segment it can only
    read the averages.
    """

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """As `FrontEnd.forward`; every stored frame goes through the linear layer, which costs more."""
        check_segments(audio, motion, self.num_segments)
        audio = to_segments(F.elu(self.audio(audio)), "clap_map", self.num_segments)
        visual = to_segments(F.elu(self.visual(visual)), "frames", self.num_segments)
        motion = to_segments(F.elu(self.motion(motion)), "frames", self.num_segments)
        return audio, F.elu(self.fusion(torch.cat((visual, motion), dim=-1)))


@known_by(
    "cmpae",
    HYBRID_MARKS | {"fc_st", "classifier1"},
    sizes=HYBRID_SIZES
    | {
        "audio_dim": ("fc_a.0.weight", -1),
        "visual_dim": ("fc_v.0.weight", -1),
        "motion_dim": ("fc_st.0.weight", -1),
        "hidden_dim": ("fc_a.0.weight", 0),
        "num_classes": ("fc_prob.weight", 0),
    },
)
class CMPAE(nn.Module):
    """Presence-absence evidence on HAN's encoder.

    While training, it also parses each batch without cross-attention (`JoMoLDOutput.unimodal`), which denoising
    needs. In evaluation mode the probabilities of segments and modalities are a mixture of both parsings.

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        num_layers: L.
        num_heads: H, a divisor of D.
        feedforward_dim: inner width of a layer's feed-forward part.
        dropout: rate inside the layers.
        class_dropout: rate on the encoded visual features before the event parser; audio has none.
        absence_dropout: rate inside the absence branch.
        feature_mix: share of the features with cross-attention, of which and of those without it the event parser
            reads a mixture; 1 for cross-attention only.
        evaluation_mix: in evaluation mode, share of the probabilities with cross-attention; the rest comes from a
            parsing without. 1 for cross-attention only, 0 for none.
        absence: what the absence branch of a modality sees.

    Raises:
        UserError: an impossible combination of arguments.
    """

    reads_frames = True
    """A bank of their averages is not for it, see `mmcse.data.frames`."""

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        num_layers: int = 1,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        class_dropout: float = 0.5,
        absence_dropout: float = 0.2,
        feature_mix: float = 0.8,
        evaluation_mix: float = 0.7,
        absence: AbsenceContext = "both",
    ) -> None:
        super().__init__()
        if absence not in get_args(AbsenceContext):
            raise UserError(f"absence is {absence!r}; expected 'both' or 'own'.")
        for name, share in (("feature_mix", feature_mix), ("evaluation_mix", evaluation_mix)):
            if not 0 <= share <= 1:
                raise UserError(f"{name} is {share}; expected a number from 0 to 1.")
        self.feature_mix, self.evaluation_mix = feature_mix, evaluation_mix
        self.absence_context: AbsenceContext = absence
        self.front_end = EluFrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.fused_hidden, self.fused_event = Linear(hidden_dim, hidden_dim), Linear(hidden_dim, num_classes)
        self.layers = hybrid_layers(num_layers, hidden_dim, num_heads, feedforward_dim, dropout)
        self.class_dropout, self.absence_dropout = Dropout(class_dropout), Dropout(absence_dropout)
        self.audio_absence, self.visual_absence = (Linear(hidden_dim, hidden_dim) for _ in range(2))
        self.presence, self.absence = Linear(hidden_dim, num_classes), Linear(hidden_dim, num_classes)
        self.temporal = Linear(hidden_dim, 2 * num_classes)  # rows: presence and absence of a class in turn

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> CMPAEOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: while training, also parse without cross-attention.
        """
        projected = stack_modalities(*self.front_end(audio, visual, motion))
        if self.training:
            unimodal = None
            if auxiliary:
                with torch.no_grad():
                    unimodal = self._parse(projected, cross_attention=False)
            return replace(self._parse(projected, cross_attention=True), unimodal=unimodal)
        share = self.evaluation_mix
        if share in (0, 1):
            return self._parse(projected, cross_attention=share == 1)
        return _mixture(*(self._parse(projected, cross_attention=cross) for cross in (True, False)), share=share)

    def _parse(self, projected: Tensor, cross_attention: bool) -> CMPAEOutput:
        video_prob, video_uncertainty = self._fused(projected)
        encoded = self._encode(projected, cross_attention)
        audio, visual = encoded.unbind(dim=2)
        features = stack_modalities(audio, self.class_dropout(visual))  # (B, T, 2, D)
        absence = self.absence(features + self._absence_context(features))
        pairs = torch.stack((self.presence(features), absence), dim=-1)  # (B, T, 2, K, 2)
        weights = self.temporal(features).unflatten(-1, (-1, 2)).softmax(dim=1)
        of_segments, of_modalities = beta_of(pairs), beta_of((weights * pairs).sum(dim=1))
        audio_prob, visual_prob = of_modalities.prob.unbind(dim=1)
        audio_uncertainty, visual_uncertainty = of_modalities.uncertainty.unbind(dim=1)
        return CMPAEOutput(
            segment_logits=of_segments.logit,
            video_prob=video_prob,
            audio_prob=audio_prob,
            visual_prob=visual_prob,
            projected=projected,
            encoded=encoded,
            video_uncertainty=video_uncertainty,
            audio_uncertainty=audio_uncertainty,
            visual_uncertainty=visual_uncertainty,
            segment_uncertainty=of_segments.uncertainty,
        )

    def _fused(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, K) and uncertainty (B,) of the video, from both modalities before the encoder."""
        logits = self.fused_event(F.leaky_relu(self.fused_hidden(projected), LEAK).sum(dim=2))  # (B, T, K)
        strength = (evidence(logits.mean(dim=1)) + 1).sum(dim=-1)
        return logits.sigmoid().mean(dim=1), logits.shape[-1] / strength

    def _encode(self, projected: Tensor, cross_attention: bool) -> Tensor:
        alone = update_both(self.layers, projected, cross_attention=False)
        if not cross_attention:
            return alone
        return self.feature_mix * update_both(self.layers, projected) + (1 - self.feature_mix) * alone

    def _absence_context(self, features: Tensor) -> Tensor:
        """What is added to the features (B, T, 2, D) before their absence is judged."""
        context = features.sum(dim=2, keepdim=True).expand_as(features) if self.absence_context == "both" else features
        audio, visual = context.unbind(dim=2)
        hidden = stack_modalities(self.audio_absence(audio), self.visual_absence(visual))
        return F.leaky_relu(self.absence_dropout(hidden), LEAK)


def _mixture(first: CMPAEOutput, second: CMPAEOutput, share: float) -> CMPAEOutput:
    """The first parsing, with the probabilities and uncertainties of both mixed; the video's are the same in both."""

    def mixed(a: Tensor, b: Tensor) -> Tensor:
        return share * a + (1 - share) * b

    present = mixed(first.segment_prob, second.segment_prob)
    absent = mixed((-first.segment_logits).sigmoid(), (-second.segment_logits).sigmoid())
    names = ("audio_prob", "visual_prob", "audio_uncertainty", "visual_uncertainty", "segment_uncertainty")
    return replace(
        first,
        segment_logits=present.log() - absent.log(),
        **{name: mixed(getattr(first, name), getattr(second, name)) for name in names},
    )


@reference_names.register
def _(network: CMPAE) -> Names:
    return (
        linear_names("front_end.audio", "fc_a.0")
        | linear_names("front_end.visual", "fc_v.0")
        | linear_names("front_end.motion", "fc_st.0")
        | linear_names("front_end.fusion", "fc_fusion.0")
        | linear_names("fused_hidden", "classifier1.0")
        | linear_names("fused_event", "classifier2")
        | encoder_names(network)
        | linear_names("audio_absence", "v2a.0")
        | linear_names("visual_absence", "a2v.0")
        | linear_names("presence", "fc_prob")
        | linear_names("absence", "fc_prob_beta")
        | linear_names("temporal", "fc_frame_att")
    )


@unused_reference_names.register
def _(network: CMPAE) -> Mapping[str, tuple[int, ...]]:
    classes, width = network.presence.weight.shape
    return {
        "fc_global.0.weight": (width, width),
        "fc_global.0.bias": (width,),
        "fc_global.2.weight": (classes, width),
        "fc_global.2.bias": (classes,),
        **norm_shapes("hat_encoder", width),
    }
