"""LAION's CLAP (Wu et al., ICASSP 2023) with feature fusion: a map of 64 x 768 of ten seconds, and of texts 512.

VALOR used the checkpoint 630k-fusion-best.pt, which transformers' repository is not known to hold: LAION's authors take
laion/clap-htsat-fused for 630k-audioset-fusion-best (LAION-AI/CLAP, issue 123). So the repository gives configuration
and tokenizer here, and the weights are those of the checkpoint.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcse.resampling import resampling_matrix
from mmcse.video.decode import Clip
from mmcse.video.encoders import hub
from mmcse.video.encoders.base import Compute, Weights, sound_of
from mmcse.video.encoders.laion import read_laion_checkpoint
from mmcse.video.encoders.spectrogram import magnitudes, mel_filters

log = logging.getLogger(__name__)

RATE = 48_000
WINDOW, HOP, BANDS = 1024, 480, 64
SECONDS = 10
"""Length of what CLAP sees at once."""
BATCH = 10
"""Pieces of 10 seconds that are encoded together."""

REPOSITORY = Weights(
    "clap-htsat-fused", "laion/clap-htsat-fused", "cca9e288ab447cee67d9ada1f85ddb46500f1401", "Apache-2.0", 5_000_000
)
"""Configuration and tokenizer."""


def log_mel(sound: Tensor) -> Tensor:
    """What CLAP sees of sound (B, n) in [-1, 1]: power in dB, (B, n / 480 + 1, 64)."""
    filters = mel_filters(WINDOW // 2 + 1, RATE, BANDS, 50, 14_000, triangles_in="hertz")
    power = magnitudes(_quantised(sound), WINDOW, HOP, WINDOW, centred=True).square() @ filters
    return 10 * power.clamp(min=1e-10).log10()


def _quantised(sound: Tensor) -> Tensor:
    """Sound through 16-bit integers and back, as CLAP was trained on."""
    return (sound.clamp(-1, 1) * 32767).trunc() / 32767


class Projection(NamedTuple):
    """Features of CLAP's audio network (..., C) to the space that it shares with texts (..., E), as plain tensors.

    The network pools its map to one vector and projects that; a segment's part of the map can be projected as well.
    """

    weight_1: Tensor
    """(E, C)."""
    bias_1: Tensor
    """(E,)."""
    weight_2: Tensor
    """(E, E)."""
    bias_2: Tensor
    """(E,)."""

    def __call__(self, features: Tensor) -> Tensor:
        """Two linear layers with a ReLU between them."""
        return F.linear(F.linear(features, self.weight_1, self.bias_1).relu(), self.weight_2, self.bias_2)


class CLAP:
    """Sound to the last feature map of CLAP's audio network, HTSAT.

    VALOR's recipe: ten seconds at 48 kHz, quantised to 16 bits; the map of 2 frequency rows x 32 time steps is stored
    row by row. Nothing here is longer than ten seconds, so fusion has nothing to fuse, and nothing is drawn at random.
    """

    name = "CLAP"
    stream: ClassVar[Literal["audio"]] = "audio"
    sample_rate = RATE
    weights = Weights(
        "630k-fusion-best.pt",
        "lukewys/laion_clap",
        "b3708341862f581175dba5c356a4ebf74a9b6651",
        "CC0-1.0",
        1_860_000_000,
    )

    def __init__(self, model: Any, tokenizer: Any, compute: Compute) -> None:
        self.network: Any = compute.place(model)
        self._tokenizer, self._compute = tokenizer, compute
        self.dim = model.config.audio_config.hidden_size

    @classmethod
    def load(
        cls,
        folder_or_repo: Path | str | None = None,
        *,
        device: str = "auto",
        dtype: str = "float32",
        offline: bool | None = None,
    ) -> Self:
        """Load network and tokenizer from a folder or from the hub's cache (see `hub.find_folder`).

        Where the folder or repository that is named has no 630k-fusion-best.pt in it or beside it, its own weights are
        used, with a warning.
        """
        library, compute = hub.transformers(), Compute.of(device, dtype)
        files = hub.SETTINGS if folder_or_repo is None else (*hub.SETTINGS, "model.safetensors", cls.weights.file)
        path = hub.find_folder(cls.name, REPOSITORY, folder_or_repo, offline, files)
        tokenizer = hub.pretrained(library.AutoTokenizer, path, f"the tokenizer of {cls.name}")
        if folder_or_repo is None:
            checkpoint = hub.find_file(cls.name, cls.weights, offline)
        else:
            places = [place / cls.weights.file for place in (path, path.parent)]
            checkpoint = next((place for place in places if place.is_file()), None)
        if checkpoint is None:
            log.warning(f"{cls.name}: no {cls.weights.file} in {path}, so its own weights are used: not VALOR's.")
            model = hub.pretrained(library.ClapModel, path, cls.name, use_safetensors=True)
        else:
            config = hub.pretrained(library.ClapConfig, path, f"the configuration of {cls.name}")
            model = library.ClapModel(config)
            model.load_state_dict(read_laion_checkpoint(checkpoint, model.state_dict()))
        return cls(model, tokenizer, compute)

    def tokens(self, num_segments: int) -> int:
        """N: the map of ten seconds; of other windows the features of the segments that are made of it."""
        return 64 if num_segments == SECONDS else num_segments

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """(B, 64, 768), or (B, T, 768) of windows that are not 10 seconds long.

        Such a window is encoded in pieces of 10 seconds, the last one filled up with silence.
        """
        segments = clips[0].num_segments
        sound = sound_of(clips, RATE)
        sound = F.pad(sound, (0, -sound.shape[1] % (SECONDS * RATE)))
        with self._compute.running():
            maps = self._audio(sound.view(-1, SECONDS * RATE))[0].flatten(2).transpose(1, 2)  # (pieces, 64, C)
            if segments != SECONDS:
                maps = resampling_matrix("clap_map", maps.shape[1], SECONDS).float() @ maps
            return maps.reshape(len(clips), -1, self.dim)[:, : self.tokens(segments)].numpy()

    def segment_embeddings(self, clips: Sequence[Clip]) -> np.ndarray:
        """Projected embeddings of the segments, (B, T, 512) float32, each of length one.

        As in VALOR's pseudo labels: every second by itself, repeated to fill ten.
        """
        seconds = sound_of(clips, RATE).view(-1, RATE)
        with self._compute.running():
            embeddings = [
                hub.unit(self.network.audio_projection(self._audio(part.repeat(1, SECONDS))[1].to(self.network.dtype)))
                for part in seconds.split(BATCH)
            ]
            return torch.cat(embeddings).view(len(clips), -1, self.network.config.projection_dim).numpy()

    def text_embeddings(self, prompts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (P, 512) float32, each of length one."""
        with self._compute.running():
            tokens = hub.tokens_of(prompts, self._tokenizer, self._compute.device)
            pooled = self.network.text_model(**tokens).pooler_output
            return hub.unit(self.network.text_projection(pooled)).cpu().numpy()

    @property
    def projection(self) -> Projection:
        """The map from pooled features to the space of `text_embeddings`."""
        return Projection(*(value.float().cpu() for value in self.network.audio_projection.state_dict().values()))

    @property
    def logit_scale(self) -> float:
        """What the product of a segment's and a text's embedding is multiplied by to be a logit."""
        return float(self.network.logit_scale_a.float().exp())

    def _audio(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """Feature maps (B, C, 2, 32) and pooled features (B, C) of ten seconds of sound (B, 480000)."""
        maps, pooled = [], []
        for part in sound.split(BATCH):
            mel = log_mel(part)[:, None].to(self._compute.device, self._compute.dtype)
            longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
            out = self.network.audio_model(input_features=mel, is_longer=longer)
            maps.append(out.last_hidden_state.float().cpu())
            pooled.append(out.pooler_output)
        return torch.cat(maps), torch.cat(pooled)
