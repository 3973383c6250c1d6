"""What makes two runs the same run: all that could change their result, and nothing else."""

import hashlib
import json
from typing import Any

EXCLUDED = (
    "seed",
    "threads",
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
beside the identity; the bank counts by the digest of what is in it, not by where it lies."""

LENGTH = 10
"""Characters of an identity: with 40 bits, a million runs collide with a chance of less than one in two million."""


def run_identity(config: dict[str, Any], bank_digest: str) -> str:
    """Hash of a resolved configuration without `EXCLUDED`, and of the data.

    Args:
        config: the resolved configuration, as plain values.
        bank_digest: digest of the feature bank's manifest.
    """
    text = json.dumps({"config": identifying(config), "bank": bank_digest}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def identifying(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that can change a result: all but `EXCLUDED`."""
    return _without(config, EXCLUDED)


def _without(node: Any, excluded: tuple[str, ...], path: str = "") -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: f"{path}.{key}".lstrip(".") for key in node}
    return {key: _without(node[key], excluded, child) for key, child in children.items() if child not in excluded}
