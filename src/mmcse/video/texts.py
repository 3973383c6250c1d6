"""Embeddings of texts by CLAP and CLIP, kept in a file: what needs the weights of the encoders is done once.

The file is an .npz with

    audio_texts, audio        (P,) strings, (P, E) numbers: what CLAP makes of them
    visual_texts, visual      likewise of CLIP
    projection_...            four tensors, from CLAP's features to the space of its texts
    encoders                  JSON: names of the encoders, and fingerprints of their weights

Texts that other encoders embed can be written in the same form; the projection and `encoders` may then be left out.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmcse.data.npz import as_strings, read_arrays, some
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.progress import progress_bar
from mmcse.video.encoders.clap import Projection
from mmcse.video.labelling import SegmentEmbedder

_PROJECTION = tuple(f"projection_{name}" for name in Projection._fields)
_INFLATION = 20
"""How much larger than the file its arrays can be; numbers are hardly compressible, names of classes are."""
_BATCH = 64
"""Texts that are encoded together."""


class EmbeddedTexts(NamedTuple):
    """P texts and what one encoder makes of them."""

    texts: tuple[str, ...]
    embeddings: Tensor
    """(P, E) float32."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """The embeddings (n, E) of some of the texts, as a `TextEncoder`."""
        row_of = {text: row for row, text in enumerate(self.texts)}
        return self.embeddings[[row_of[text] for text in texts]]


@dataclass(frozen=True)
class TextEmbeddings:
    """Texts as CLAP and CLIP embed them."""

    audio: EmbeddedTexts
    """By CLAP."""
    visual: EmbeddedTexts
    """By CLIP."""
    projection: Projection | None = None
    """From CLAP's features of sound to the space of its texts; None where they are in it."""
    encoders: Mapping[str, str] | None = None
    """Fingerprints of the weights, by the names of the encoders; None where nobody knows."""

    @classmethod
    def encode(
        cls, teachers: SegmentEmbedder, audio: Sequence[str], visual: Sequence[str], *, progress: bool = True
    ) -> "TextEmbeddings":
        """Have texts embedded.

        Args:
            teachers: CLAP and CLIP.
            audio: texts for CLAP.
            visual: texts for CLIP.
            progress: show how far it is, on standard error.
        """
        total = len(audio) + len(visual)
        with progress_bar(total=total, description="encoding", unit="texts", enabled=progress) as bar:

            def embedded(encoder, texts: Sequence[str]) -> EmbeddedTexts:
                parts = []
                for start in range(0, len(texts), _BATCH):
                    parts.append(encoder.text_embeddings(texts[start : start + _BATCH]))
                    bar.update(len(parts[-1]))
                return EmbeddedTexts(tuple(texts), torch.from_numpy(np.concatenate(parts)))

            spaces = embedded(teachers.audio, audio), embedded(teachers.visual, visual)
        return cls(*spaces, teachers.audio.projection, teachers.settings["encoders"])

    def write(self, file: Path) -> None:
        """Write a file that `read` reads, completely or not at all.

        Raises:
            UserError: the disk is full.
        """
        arrays: dict[str, Any] = {}
        for name, space in (("audio", self.audio), ("visual", self.visual)):
            arrays |= {f"{name}_texts": np.array(space.texts, dtype=np.str_), name: space.embeddings.numpy()}
        if self.projection is not None:
            arrays |= {name: value.numpy() for name, value in zip(_PROJECTION, self.projection, strict=True)}
        if self.encoders is not None:
            arrays["encoders"] = np.array([json.dumps(dict(self.encoders))])
        with atomic_write(file) as handle:
            np.savez(handle, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, file: Path) -> "TextEmbeddings":
        """Read what `write` wrote.

        Raises:
            MissingFileError: there is no such file.
            UserError: it is not of this form.
        """
        arrays = read_arrays(
            file,
            ("audio_texts", "audio", "visual_texts", "visual"),
            (*_PROJECTION, "encoders"),
            most=_INFLATION * file.stat().st_size if file.is_file() else 0,
            what="text embeddings",
            advice="`mmcse segment-labels --texts FILE` writes such files.",
        )
        audio, visual = (_space(file, name, arrays) for name in ("audio", "visual"))
        return cls(audio, visual, _projection(file, arrays, audio.embeddings.shape[1]), _encoders(file, arrays))

    def require(self, audio: Collection[str], visual: Collection[str], file: Path) -> None:
        """Check that all of these texts are there.

        Raises:
            UserError: some are not; the message names the file they were read from.
        """
        missing = [text for text in audio if text not in self.audio.texts]
        missing += [text for text in visual if text not in self.visual.texts]
        if missing:
            raise UserError(
                f"{file} lacks {len(missing)} of {len(audio) + len(visual)} texts: {some(missing)}. It was made for "
                "other labels, classes or phrases. Name a file that does not exist yet, on a machine with the weights "
                "of CLAP and CLIP."
            )


def _space(file: Path, name: str, arrays: Mapping[str, np.ndarray]) -> EmbeddedTexts:
    """The texts of one modality with their embeddings."""
    texts, array = as_strings(file, f"{name}_texts", arrays[f"{name}_texts"]), arrays[name]
    if array.ndim != 2 or len(array) != len(texts) or not _is_finite(array):
        raise UserError(
            f"{file}: {name!r} is {array.dtype} of shape {array.shape}; expected finite numbers ({len(texts)}, E), an "
            "embedding for each text."
        )
    return EmbeddedTexts(tuple(texts), torch.from_numpy(array.astype(np.float32)))


def _projection(file: Path, arrays: Mapping[str, np.ndarray], width: int) -> Projection | None:
    """CLAP's projection, checked to lead to a space of this width."""
    parts = [arrays[name] for name in _PROJECTION if name in arrays]
    if not parts:
        return None
    C = parts[0].shape[-1] if parts[0].ndim == 2 else 0
    expected = [(width, C), (width,), (width, width), (width,)]
    if [part.shape for part in parts] != expected or not all(map(_is_finite, parts)):
        found = ", ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise UserError(
            f"{file}: the projection is {found}; expected four finite tensors that lead to {width} dimensions."
        )
    return Projection(*(torch.from_numpy(part.astype(np.float32)) for part in parts))


def _encoders(file: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, str] | None:
    if "encoders" not in arrays:
        return None
    try:
        [text] = as_strings(file, "encoders", arrays["encoders"])
        return {str(name): str(digest) for name, digest in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: 'encoders' is no JSON of names and fingerprints ({error}).") from None


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and bool(np.isfinite(array).all())
