"""What makes two runs the same run: all that could change their result, and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcse.errors import MissingFileError, UserError

FILES = ("objective.noise_ratios", "data.label_changes", "data.segment_labels", "model.label_embeddings")
"""Keys of a configuration that name a file, or a folder of files: they count by what is in them."""

EXCLUDED = (
    *FILES,
    "seed",
    "threads",
    "compile",
    "kernels",
    "micro_batch",
    "run",
    "packages",
    "logger",
    "data.bank",
    "data.num_workers",
    "data.eval_batch_size",
    "data.seed",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.logger",
    "trainer.log_every_n_steps",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
)
"""Keys of a configuration that say where, how fast or how visibly a run goes, not what comes out. The seed stands
beside the identity; the bank counts by the digest of what is in it, not by where it lies, and so do `FILES`.
`micro_batch` and `kernels` change no more than which random numbers dropout draws."""

NEWER = {
    "stages": None,
    "rates": None,
    "evaluation.gate_threshold": None,
    "evaluation.patience": None,
    "evaluation.search_thresholds": None,
    "evaluation.select_on_test": False,
    "evaluation.test_pair": None,
    "data.drop_last": False,
    "model.hybrid_dropout": 0.1,
    "model.window_heads": None,
    "objective.audio_smoothing": 0.0,
    "objective.contrast_form": "mixture",
    "stages.noise_estimator.changes.objective.audio_smoothing": 0.0,
    "stages.noise_estimator.changes.objective.contrast_form": "mixture",
    **{
        f"stages.{stage}.changes.{key}": None
        for stage in ("ma_base", "noise_estimator")
        for key in ("data.label_changes", "data.segment_labels", "evaluation.patience")
    },
}
"""Keys that the first configurations did not have, and the value that stands for what was done before them. With this
value a key is left out, so that runs of then and now are the same run."""

LENGTH = 10
"""Characters of an identity: with 40 bits, a million runs collide with a chance of less than one in two million."""


def run_identity(
    config: dict[str, Any], bank_digest: str, files: Mapping[str, str] | None = None, processes: int = 1
) -> str:
    """Hash of a resolved configuration without `EXCLUDED`, and of the data.

    Args:
        config: the resolved configuration, as plain values.
        bank_digest: digest of the feature bank's manifest.
        files: what `file_digests` says of the configuration.
        processes: that train together, each on batches of its own.

    Raises:
        TypeError: the configuration holds what JSON does not know.
    """
    parts = {"config": identifying(config), "bank": bank_digest} | ({"files": files} if files else {})
    parts |= {"processes": processes} if processes > 1 else {}
    return hashlib.sha256(_json(parts)).hexdigest()[:LENGTH]


def identifying(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that can change a result: all but `EXCLUDED`, and `NEWER` keys at work."""
    kept, order = _without(config), config.get("data", {}).get("seed")
    if order not in (None, config.get("seed")):  # the videos come in the order of another seed than the run's
        kept["data"]["seed"] = order
    return kept


def file_digests(config: dict[str, Any]) -> dict[str, str]:
    """Digests of the contents of all `FILES` that a resolved configuration names, by their keys.

    Raises:
        MissingFileError: one of them does not exist.
        UserError: one of them cannot be read.
    """
    return {key: _digest(Path(file), key) for key, file in _named_files(config).items()}


def _named_files(config: dict[str, Any]) -> dict[str, str]:
    """What a configuration names under `FILES`, by their keys."""
    named = {}
    for key in FILES:
        section, name = key.split(".")
        node = config.get(section)
        if isinstance(node, dict) and isinstance(file := node.get(name), str):
            named[key] = file
    return named


def _digest(place: Path, key: str) -> str:
    if not place.exists():
        raise MissingFileError(f"There is no file {place}, which {key} names.")
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    try:
        contents = {file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    except OSError as error:
        raise UserError(f"{place}, which {key} names, cannot be read: {error.strerror}.") from error
    return hashlib.sha256(_json(contents)).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _without(node: Any, path: str = "") -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: f"{path}.{key}".lstrip(".") for key in node}
    return {
        key: _without(node[key], child)
        for key, child in children.items()
        if child not in EXCLUDED and not (child in NEWER and node[key] == NEWER[child])
    }
