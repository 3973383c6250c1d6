"""Recipes of pseudo labels: for every class, what the two teachers are asked and how sure they must be."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write
from mmcse.vocabulary import near_miss, read_vocabulary

RECIPES = Path(__file__).parent / "recipes"
"""Those that come with the package."""

Modality = Literal["audio", "visual"]


@dataclass(frozen=True)
class Questions:
    """What one teacher is asked: CLAP about what is heard, CLIP about what is seen. Shapes: K classes."""

    prompts: tuple[str, ...]
    """The K sentences that a segment is compared with."""
    thresholds: np.ndarray
    """(K,) float64: the logit that a segment must exceed."""


@dataclass(frozen=True)
class Recipe:
    """A vocabulary with the questions about it."""

    classes: tuple[str, ...]
    """The K names in order."""
    audio: Questions
    visual: Questions

    @classmethod
    def find(cls, name: str | os.PathLike[str]) -> Self:
        """Read a recipe: under `classes`, for every class `audio` and `visual`, each a `prompt` and a `threshold`.

        Args:
            name: a yaml file, or the name of one that comes with the package ("valor_llp", "template").

        Raises:
            MissingFileError: there is neither.
            UserError: it is not such a file; the message names class and key.
        """
        path = Path(name)
        if not path.suffix and not path.exists():
            known = {file.stem: file for file in RECIPES.glob("*.yaml")}
            if str(name) not in known:
                raise MissingFileError(
                    f"There is no recipe {str(name)!r}.{near_miss(str(name), known)} Expected a yaml file, or one of "
                    f"{', '.join(sorted(known))}."
                )
            path = known[str(name)]
        entries = read_vocabulary(path)
        for name, entry in entries.items():
            _check_keys(entry, ("audio", "visual"), f"{path}: class {name!r}")
        audio, visual = (_questions(entries, modality, path) for modality in ("audio", "visual"))
        return cls(tuple(entries), audio, visual)

    def with_thresholds(self, *, audio: np.ndarray, visual: np.ndarray) -> Self:
        """The same questions with other thresholds, each (K,)."""
        return replace(
            self, audio=replace(self.audio, thresholds=audio), visual=replace(self.visual, thresholds=visual)
        )

    def write(self, path: str | os.PathLike[str], comment: str) -> None:
        """Write a file that `find` reads, completely or not at all.

        Args:
            path: the file; one that exists is replaced.
            comment: what the file is, for its first lines.
        """
        import yaml

        content = {name: {m: self._entry(m, k) for m in ("audio", "visual")} for k, name in enumerate(self.classes)}
        text = yaml.safe_dump({"classes": content}, sort_keys=False, allow_unicode=True, width=1000)
        head = "".join(f"# {line}\n" for line in comment.splitlines())
        with atomic_write(path) as handle:
            handle.write((head + text).encode())

    def _entry(self, modality: Modality, k: int) -> dict[str, Any]:
        questions: Questions = getattr(self, modality)
        return {"prompt": questions.prompts[k], "threshold": float(questions.thresholds[k])}


def _questions(entries: dict[str, Any], modality: Modality, path: Path) -> Questions:
    prompts, thresholds = [], []
    for name, entry in entries.items():
        where = f"{path}: class {name!r}, {modality}"
        _check_keys(entry[modality], ("prompt", "threshold"), where)
        prompt, threshold = entry[modality]["prompt"], entry[modality]["threshold"]
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError(f"{where}: the prompt is {prompt!r}; expected a sentence.")
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not np.isfinite(threshold):
            raise UserError(f"{where}: the threshold is {threshold!r}; expected one number.")
        prompts.append(prompt)
        thresholds.append(threshold)
    return Questions(tuple(prompts), np.array(thresholds, dtype=np.float64))


def _check_keys(entry: Any, expected: Sequence[str], where: str) -> None:
    """Check that an entry is a mapping with these keys and no other."""
    if not isinstance(entry, dict):
        raise UserError(f"{where} has no {' and '.join(expected)}. `mmcse pseudo-label --help` shows an example.")
    if unknown := [str(key) for key in entry if key not in expected]:
        raise UserError(f"{where}: unknown key {unknown[0]!r}.{near_miss(unknown[0], expected)}")
    if missing := [key for key in expected if key not in entry]:
        raise UserError(f"{where} has no {missing[0]}. Expected {' and '.join(expected)} of every class.")
