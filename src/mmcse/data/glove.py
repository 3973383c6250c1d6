"""Embeddings of class names from GloVe's word vectors, as LEAP reads them.

GloVe's text format is a word and its numbers on each line, separated by blanks. The files are large, and a few dozen
words are wanted: lines are read one after the other, until all words are found.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmcse.errors import MissingFileError, UserError

_LONGEST_LINE = 1_000_000
"""Bytes: a file with a longer one is no text of word vectors."""


def words_of(wording: str) -> list[str]:
    """The words of a class name, in lower case as GloVe 6B has them: `Basketball_bounce` is basketball, bounce."""
    return re.findall(r"[^\W_]+", wording.lower())


def class_embeddings(file: str | os.PathLike[str], wordings: Mapping[str, str]) -> np.ndarray:
    """An embedding for every class: the vector of its word, or the mean of those of its words; not normalised.

    How LEAP's authors make one vector of several words is not said; the mean is our choice.

    Args:
        file: vectors in GloVe's text format.
        wordings: the K classes, in order, and the words that stand for each.

    Returns:
        (K, E) in float32.

    Raises:
        MissingFileError: there is no such file.
        UserError: it is not in that format, or lacks a word.
    """
    words = {name: words_of(wording) for name, wording in wordings.items()}
    if wordless := [name for name, found in words.items() if not found]:
        raise UserError(f"The class {wordless[0]!r} has no word that could be looked up: give it some.")
    vectors = _read_vectors(Path(file), {word for found in words.values() for word in found})
    missing = [f"{word} ({name})" for name, found in words.items() for word in found if word not in vectors]
    if missing and not vectors:
        raise UserError(
            f"{file} has a vector for none of the words. Expected GloVe's text format, a word in lower case and its "
            "numbers on each line, as glove.6B.300d.txt has them; a .zip file has to be unpacked."
        )
    if missing:
        raise UserError(
            f"{file} has no vector for {', '.join(missing)}. Give these classes other words: --classes takes a yaml "
            "file, classes: {NAME: WORDS, ...}."
        )
    return np.stack([np.mean([vectors[word] for word in found], axis=0) for found in words.values()]).astype(np.float32)


def _read_vectors(file: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The vectors of the wanted words that the file has."""
    if not file.is_file():
        raise MissingFileError(f"There is no file {file}. Expected word vectors, such as glove.6B.300d.txt.")
    left, vectors, width = {word.encode(): word for word in wanted}, {}, None
    with file.open("rb") as lines:
        number = 0
        while left and (line := lines.readline(_LONGEST_LINE)):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise UserError(f"{file} is not in GloVe's text format: line {number} has {_LONGEST_LINE:,} bytes.")
            key, _, numbers = line.partition(b" ")
            if key not in left:
                continue
            try:
                vector = np.array(numbers.split(), dtype=np.float64)
            except ValueError:
                vector = np.empty(0)
            width = width or len(vector)
            if not len(vector) or len(vector) != width or not np.isfinite(vector).all():
                raise UserError(
                    f"{file}, line {number}: {left[key]!r} is not followed by {width or 'some'} finite numbers. "
                    "Expected GloVe's text format."
                )
            vectors[left.pop(key)] = vector
    return vectors
