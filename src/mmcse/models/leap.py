"""LEAP, label-anticipated event-aware parsing (Zhou et al., ECCV 2024): a decoder in place of MMIL pooling.

Every class has a token that starts from the embedding of its name and gathers what the segments tell of it. How well
the token then matches a segment is the event's logit there; what the token has become tells of the whole video.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mmcse.data.npy import read_array
from mmcse.errors import MissingFileError, UserError
from mmcse.models.decoupling import stack_modalities
from mmcse.models.frontend import FrontEnd
from mmcse.models.hybrid import HybridOutput, hybrid_layers, update_both
from mmcse.models.linear import Linear
from mmcse.models.mmpyramid import (
    PyramidEncoder,
    pyramid_names,
    query_norm_layer_names,
    repeated_pyramid_names,
    unused_attention_norms,
    unused_pyramid_names,
    unused_template,
)
from mmcse.models.recognition import FRONT_END_SIZES, known_by
from mmcse.models.reference import (
    Names,
    front_end_names,
    hybrid_layer_names,
    linear_names,
    norm_shapes,
    reference_names,
    repeated_reference_names,
    unused_reference_names,
)
from mmcse.models.transformer import QueryNormLayer, start_alike

VideoRule = Literal["thresholded_or", "max"]
"""A video has an event if either modality has it: as 0 or 1 without gradient (released), or as their maximum."""

RANDOM_WIDTH, RANDOM_NORM = 300, 6.0
"""Width, and about the norm, of the GloVe vectors that random label embeddings stand in for."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LEAPOutput(HybridOutput):
    """A parsing, and what the label tokens have become."""

    label_features: Tensor
    """(B, 2, K, D) label tokens after the last layer."""


class HybridEncoder(nn.Module):
    """HAN's encoder: one hybrid attention layer with one head."""

    def __init__(self, dim: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = hybrid_layers(1, dim, 1, feedforward_dim, dropout)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, ...]:
        """Segment features (B, T, D) of audio and visual to new ones."""
        return update_both(self.layers, stack_modalities(audio, visual)).unbind(dim=2)


class LabelDecoder(nn.Module):
    """Label tokens of one modality gather from its segments, layer by layer; no token sees another one."""

    def __init__(self, layers: list[QueryNormLayer], dim: int) -> None:
        super().__init__()
        *before, self.last = layers
        self.layers = nn.ModuleList(before)
        self.head = Linear(dim, 1)

    def forward(self, labels: Tensor, segments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Label tokens (K, D) and segments (B, T, D) to logits, probabilities and new tokens.

        Returns:
            (B, T, K) logits of the segments, (B, K) probabilities of the video, (B, K, D) tokens.
        """
        labels = labels.expand(len(segments), -1, -1)
        for layer in self.layers:
            labels = layer(labels, segments)
        attended = self.last.attend(labels, segments)
        labels = self.last.refine(attended)
        # the same projections once more, now of the updated query, which no norm has seen
        logits = self.last.attention.scores(attended, segments).mean(dim=-3)  # (B, K, T)
        return logits.transpose(1, 2), self.head(labels).squeeze(-1).sigmoid(), labels


@known_by(
    "leap",
    {"MMP", "AVL"},
    sizes=FRONT_END_SIZES
    | {
        "encoder": lambda state: "han" if any(name.startswith("MMP.hat_encoder.") for name in state) else "mmpyramid",
        "num_layers": "AVL.lv_cma_network.",
        "feedforward_dim": ("AVL.lv_cma_network.0.feed_forward.w_1.weight", 0),
        "num_levels": "MMP.capture.msa.",
    },
)
class LEAP(nn.Module):
    """An encoder of segments, and a decoder of label tokens per modality.

    The defaults are the released network, on VGGish/ResNet-152 features and the encoder of MM-Pyramid (whose streams
    are used in the straight order here).

    Args:
        audio_dim: C of the audio features.
        visual_dim: C of the appearance features.
        motion_dim: C of the motion features.
        num_classes: K.
        num_segments: T.
        hidden_dim: D.
        encoder: "mmpyramid", or "han" for one hybrid attention layer with one head.
        num_layers: L, layers of the decoder.
        num_heads: H of the decoder and of the pyramid, a divisor of D.
        feedforward_dim: inner width of every layer's feed-forward part.
        num_levels: levels of the pyramid.
        attention_dropout: on the attention weights of decoder and pyramid.
        dropout: on the updates of their layers, and inside the feed-forward parts.
        hybrid_dropout: rate everywhere HAN's encoder has dropout.
        label_embeddings: the (K, E) embeddings of the class names, or a .npy file with them, in any floating dtype;
            they are kept in theirs, and read in that of the weights. None: fixed random directions, one per class,
            which only tell the classes apart, and a warning. (The paper's are GloVe 6B, 300-d, not normalised;
            `mmcse label-embeddings` makes such a file.)
        video: how the video-level probability follows from those of the modalities. Both rules gate alike at a
            threshold of 0.5; a gradient has only "max".

    Raises:
        MissingFileError: there is no file of label embeddings.
        UserError: it does not hold K embeddings, or an impossible combination of arguments.
    """

    label_embeddings: Tensor

    def __init__(
        self,
        audio_dim: int = 128,
        visual_dim: int = 2048,
        motion_dim: int = 512,
        num_classes: int = 25,
        num_segments: int = 10,
        hidden_dim: int = 512,
        encoder: Literal["mmpyramid", "han"] = "mmpyramid",
        num_layers: int = 2,
        num_heads: int = 8,
        feedforward_dim: int = 512,
        num_levels: int = 4,
        attention_dropout: float = 0.1,
        dropout: float = 0.2,
        hybrid_dropout: float = 0.1,
        label_embeddings: str | os.PathLike[str] | Tensor | None = None,
        video: VideoRule = "thresholded_or",
    ) -> None:
        super().__init__()
        if encoder not in ("mmpyramid", "han"):
            raise UserError(f"encoder is {encoder!r}; expected 'mmpyramid' or 'han'.")
        if video not in ("thresholded_or", "max"):
            raise UserError(f"video is {video!r}; expected 'thresholded_or' or 'max'.")
        if num_layers < 1:
            raise UserError(f"LEAP's decoder needs at least one layer; num_layers is {num_layers}.")
        self.video: VideoRule = video
        self.front_end = FrontEnd(audio_dim, visual_dim, motion_dim, hidden_dim, num_segments)
        self.encoder = (
            PyramidEncoder(hidden_dim, num_levels, num_heads, feedforward_dim, attention_dropout, dropout)
            if encoder == "mmpyramid"
            else HybridEncoder(hidden_dim, feedforward_dim, hybrid_dropout)
        )
        # stays with the weights: a checkpoint is of no use with other embeddings
        self.register_buffer("label_embeddings", label_table(label_embeddings, num_classes))
        self.label_projection = Linear(self.label_embeddings.shape[1], hidden_dim)
        layers = [
            QueryNormLayer(hidden_dim, num_heads, feedforward_dim, attention_dropout, dropout)
            for _ in range(2 * num_layers)
        ]
        start_alike(layers)
        self.audio_decoder = LabelDecoder(layers[:num_layers], hidden_dim)
        self.visual_decoder = LabelDecoder(layers[num_layers:], hidden_dim)

    def forward(self, audio: Tensor, visual: Tensor, motion: Tensor, *, auxiliary: bool = True) -> LEAPOutput:
        """Parse a batch of videos.

        Args:
            audio: (B, N, C) audio features; N is T, or the tokens of CLAP's feature map.
            visual: (B, N, C) appearance features; N is T, or a multiple of it.
            motion: (B, T, C) motion features.
            auxiliary: without effect: what the output holds beyond predictions costs nothing.
        """
        projected = self.front_end(audio, visual, motion)
        encoded_audio, encoded_visual = self.encoder(*projected)
        labels = self.label_projection(self.label_embeddings.to(self.label_projection.weight.dtype))
        audio_logits, audio_prob, audio_labels = self.audio_decoder(labels, encoded_audio)
        visual_logits, visual_prob, visual_labels = self.visual_decoder(labels, encoded_visual)
        video_prob = torch.maximum(audio_prob, visual_prob)
        return LEAPOutput(
            segment_logits=stack_modalities(audio_logits, visual_logits),
            video_prob=(video_prob >= 0.5).to(video_prob) if self.video == "thresholded_or" else video_prob,
            audio_prob=audio_prob,
            visual_prob=visual_prob,
            projected=stack_modalities(*projected),
            encoded=stack_modalities(encoded_audio, encoded_visual),
            label_features=torch.stack((audio_labels, visual_labels), dim=1),
        )


def label_table(given: str | os.PathLike[str] | Tensor | None, num_classes: int) -> Tensor:
    """The embeddings of the class names.

    Args:
        given: (K, E) numbers in the order of the classes, or a .npy file of them; None makes them up, always the same,
            and says so.
        num_classes: K.

    Returns:
        (K, E), in the dtype they were given in.

    Raises:
        MissingFileError: there is no such file.
        UserError: there is not an embedding for every class.
    """
    if given is None:
        if torch.get_default_device().type != "meta":  # where parameters are only counted
            log.warning(
                "LEAP has no embeddings of the class names. Fixed random directions stand in for them: they tell the "
                "classes apart and know nothing of their names, which is not the published method. Give "
                "model.label_embeddings=FILE; `mmcse label-embeddings` makes the file of GloVe's vectors."
            )
        random = np.random.default_rng(0).standard_normal((num_classes, RANDOM_WIDTH))
        return torch.from_numpy(random * RANDOM_NORM / RANDOM_WIDTH**0.5).to(torch.get_default_dtype())
    if isinstance(given, Tensor):
        place, table = "What was given", given.detach().cpu().clone()
    elif Path(given).is_file():
        place, table = given, read_array(Path(given))
    else:
        raise MissingFileError(f"There is no file {given}. Expected label embeddings, a .npy file of (K, E) numbers.")
    dtype = str(table.dtype).removeprefix("torch.")
    if table.ndim != 2 or len(table) != num_classes or dtype not in _FLOATS:
        raise UserError(
            f"{place} holds {dtype} of shape {tuple(table.shape)}. Expected a float embedding for each of "
            f"{num_classes} classes, (K, E)."
        )
    return table if isinstance(table, Tensor) else torch.tensor(table)


@reference_names.register
def _(network: LEAP) -> Names:
    names = front_end_names() | linear_names("label_projection", "fc_l")
    if isinstance(network.encoder, PyramidEncoder):
        names |= pyramid_names(network.encoder)
    else:
        names |= hybrid_layer_names("encoder.layers.0", "MMP.hat_encoder.layers.0")
    for ours, theirs in _decoder_layers(network).items():
        names |= query_norm_layer_names(ours, theirs)
    return names | linear_names("audio_decoder.head", "fc_la") | linear_names("visual_decoder.head", "fc_lv")


@unused_reference_names.register
def _(network: LEAP) -> Mapping[str, tuple[int, ...]]:
    dim = network.label_projection.out_features
    inner = len(network.get_parameter("audio_decoder.last.feedforward.0.bias"))
    unused = unused_template("AVL", dim, inner)
    unused |= unused_attention_norms([f"{name}.self_attn" for name in _decoder_layers(network).values()], dim)
    if isinstance(network.encoder, PyramidEncoder):
        return unused | unused_pyramid_names(network.encoder)
    return unused | norm_shapes("MMP.hat_encoder", dim)


@repeated_reference_names.register
def _(network: LEAP) -> Mapping[str, str]:
    return repeated_pyramid_names(network.encoder) if isinstance(network.encoder, PyramidEncoder) else {}


def _decoder_layers(network: LEAP) -> dict[str, str]:
    """Every layer of both decoders: our name -> theirs."""
    ours = [*(f"layers.{i}" for i in range(len(network.audio_decoder.layers))), "last"]
    return {
        f"{m}_decoder.{name}": f"AVL.l{m[0]}_cma_network.{i}"
        for m in ("audio", "visual")
        for i, name in enumerate(ours)
    }
