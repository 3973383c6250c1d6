"""CLIP ViT-L/14 (Radford et al., ICML 2021): 768 features of a frame a second, and of texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from mmcse.video.decode import Clip
from mmcse.video.encoders import hub, images
from mmcse.video.encoders.base import Compute, Weights, frames_of, per_clip

BATCH = 80
"""Frames that are encoded together."""


class CLIP:
    """Frames to projected image embeddings of length one.

    VALOR's recipe: as many frames as segments, equally spaced from the first frame to the last; both sides to 224
    without a crop; CLIP's normalisation.
    """

    name = "CLIP ViT-L/14"
    stream: ClassVar[Literal["visual"]] = "visual"
    sample_rate = None
    weights = Weights(
        "clip-vit-large-patch14",
        "openai/clip-vit-large-patch14",
        "32bd64288804d66eefd0ccbe215aa642df71cc41",
        "MIT",
        1_710_000_000,
    )

    def __init__(self, model: Any, tokenizer: Any, compute: Compute) -> None:
        self.network: Any = compute.place(model)
        self._tokenizer, self._compute = tokenizer, compute
        self._size = model.config.vision_config.image_size
        self.dim = model.config.projection_dim

    @classmethod
    def load(
        cls,
        folder_or_repo: Path | str | None = None,
        *,
        device: str = "auto",
        dtype: str = "float32",
        offline: bool | None = None,
    ) -> Self:
        """Load network and tokenizer from a folder or from the hub's cache (see `hub.find_folder`)."""
        library, compute = hub.transformers(), Compute.of(device, dtype)
        files = (*hub.SETTINGS, "model.safetensors")
        path = hub.find_folder(cls.name, cls.weights, folder_or_repo, offline, files)
        model = hub.pretrained(library.CLIPModel, path, cls.name, use_safetensors=True)
        return cls(model, hub.pretrained(library.CLIPTokenizer, path, f"the tokenizer of {cls.name}"), compute)

    def tokens(self, num_segments: int) -> int:
        """N: one a segment."""
        return num_segments

    def encode(self, clips: Sequence[Clip]) -> np.ndarray:
        """(B, T, 768), each of length one."""
        with self._compute.running():
            frames = torch.cat([
                images.squash(part[_equally_spaced(len(part), clip.num_segments)], self._size)
                for part, clip in zip(frames_of(clips, self._compute), clips, strict=True)
            ])  # fmt: skip
            pixels = images.normalise(frames, images.CLIP_MEAN, images.CLIP_STD)
            embeddings = []
            for part in self._compute.batches(pixels, BATCH):
                pooled = self.network.vision_model(pixel_values=part).pooler_output
                embeddings.append(hub.unit(self.network.visual_projection(pooled)))
            return per_clip(embeddings, clips)

    def text_embeddings(self, prompts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (P, 768) float32, each of length one."""
        with self._compute.running():
            tokens = hub.tokens_of(prompts, self._tokenizer, self._compute.device)
            pooled = self.network.text_model(**tokens).pooler_output
            return hub.unit(self.network.text_projection(pooled)).cpu().numpy()

    @property
    def logit_scale(self) -> float:
        """What the product of an image's and a text's embedding is multiplied by to be a logit."""
        return float(self.network.logit_scale.float().exp())


def _equally_spaced(length: int, count: int) -> np.ndarray:
    """Indices of `count` items from the first to the last of `length`."""
    return np.round(np.linspace(0, length - 1, count)).astype(int)
