"""Count the label statistics that SimLLP reproduces from LLP's annotations.

`python -m mmcse.data.simllp.statistics ANNOTATION_FOLDER [--out JSON]` gives the `statistics.json` of the package. How
the counts are laid out stands in `mmcse.data.simllp.counts`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmcse.data.annotations import read_annotations
from mmcse.data.simllp.counts import (
    LabelCounts,
    company,
    coverage,
    every,
    segment_coverage,
    shipped_json,
    some,
    states_before,
)
from mmcse.errors import UserError


def count_labels(train_weak: np.ndarray, dense_weak: np.ndarray, audio: np.ndarray, visual: np.ndarray) -> LabelCounts:
    """Count what SimLLP needs to know.

    Args:
        train_weak: (N, K) booleans, weak labels of the training split.
        dense_weak: (N', K) booleans, weak labels of the videos with segment-level truth.
        audio: (N', T, K) booleans, audible events.
        visual: (N', T, K) booleans, visible events.
    """
    sets = Counter(tuple(np.flatnonzero(row).tolist()) for row in train_weak)
    by_frequency = sorted(sets.items(), key=lambda item: (-item[1], item[0]))
    return LabelCounts(
        num_segments=audio.shape[1],
        train_label_sets=by_frequency,
        dense_videos=len(dense_weak),
        dense_labels=dense_weak.sum(axis=0),
        modality=_count_modalities(some(audio, axis=1), some(visual, axis=1)),
        **_count_timelines(audio, visual),
    )


def _count_modalities(audible: np.ndarray, visible: np.ndarray) -> np.ndarray:
    present = audible | visible
    events = present.sum(axis=1)
    counts = np.zeros((present.shape[1], 4, 3), dtype=int)
    for c in reversed(range(len(counts))):
        context = company(events, some(present[:, c + 1 :], axis=1), some(visible[:, c + 1 :], axis=1))
        kind = np.where(audible[:, c], np.where(visible[:, c], 2, 0), 1)
        np.add.at(counts[c], (context[present[:, c]], kind[present[:, c]]), 1)
    return counts


def _count_timelines(audio: np.ndarray, visual: np.ndarray) -> dict[str, np.ndarray]:
    K = audio.shape[-1]
    shapes = {"audio_fill": (K, 2, 4), "visual_fill": (K, 2, 4), "same": (K, 2)}
    shapes |= {"audio_chain": (K, 4, 4), "visual_chain": (3, 4, 4)}
    counts = {name: np.zeros((*shape, 2), dtype=int) for name, shape in shapes.items()}
    heard, seen = (some(x, axis=1).sum(axis=1) for x in (audio, visual))
    for c in reversed(range(K)):
        a, v = audio[:, :, c], visual[:, :, c]
        earlier_a, earlier_v = some(audio[:, :, c + 1 :], axis=2), some(visual[:, :, c + 1 :], axis=2)
        audible, visible = some(a, axis=1), some(v, axis=1)
        fills_a, fills_v = every(a, axis=1), every(v, axis=1)
        both, same = audible & visible, every(a == v, axis=1)

        _tally(counts["same"][c], same, both, (fills_a.astype(int),))
        _tally(counts["audio_fill"][c], fills_a, audible, (both.astype(int), coverage(heard, earlier_a)))
        free = visible & ~same & ~fills_a
        _tally(counts["visual_fill"][c], fills_v, free, (both.astype(int), coverage(seen, earlier_v)))

        context = (segment_coverage(heard, earlier_a), states_before(a))
        _tally(counts["audio_chain"][c], a, (audible & ~fills_a)[:, None], context)
        own = np.where(audible[:, None], a.astype(int), 2)
        context = (own, segment_coverage(seen, earlier_v), states_before(v))
        _tally(counts["visual_chain"], v, (visible & ~same & ~fills_v)[:, None], context)
    return counts


def _tally(counts: np.ndarray, hit: np.ndarray, counted: np.ndarray, context: Sequence[np.ndarray]) -> None:
    """Add to `counts` (*contexts, 2) how often `hit` holds, and how often it could, where `counted` holds."""
    counted = np.broadcast_to(counted, hit.shape)
    np.add.at(counts[..., 0], tuple(x[counted & hit] for x in context), 1)
    np.add.at(counts[..., 1], tuple(x[counted] for x in context), 1)


def _as_text(content: dict[str, dict[str, Any]]) -> str:
    """JSON with one line for each count, to be readable and small."""
    lines = []
    for part, values in content.items():
        body = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in values.items())
        lines.append(f" {json.dumps(part)}: {{\n{body}\n }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def statistics_of(folder: Path | str) -> dict[str, dict[str, Any]]:
    """The content of `statistics.json` for a folder of annotation files; what is assumed is kept as shipped.

    Raises:
        UserError: the annotations cannot be read.
    """
    train, *dense = (read_annotations(folder, split) for split in ("train", "val", "test"))
    weak, audio, visual = (
        np.concatenate([getattr(part, name) for part in dense]) for name in ("weak", "true_audio", "true_visual")
    )
    counts = count_labels(train.weak, weak, audio, visual)
    return {"assumed": shipped_json()["assumed"], "counted": counts.to_json()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Count the statistics of an annotation folder and print them, or write them with --out."""
    parser = argparse.ArgumentParser(description="Count the label statistics that SimLLP reproduces.")
    parser.add_argument("annotations", type=Path, help="folder with LLP's annotation files")
    parser.add_argument("--out", type=Path, help="file to write; without it the result is printed")
    options = parser.parse_args(arguments)
    try:
        text = _as_text(statistics_of(options.annotations))
    except UserError as error:
        parser.exit(1, f"{error}\n")
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
