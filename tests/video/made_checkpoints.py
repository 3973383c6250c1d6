"""Checkpoints of small untrained networks, as `mmcse train` writes them."""

from pathlib import Path

import torch

from mmcse.callbacks.card import CARD, CARD_FORMAT
from mmcse.models import MMCSE

SMALL = {"hidden_dim": 16, "class_dim": 8, "num_heads": 2, "num_layers": 1, "feedforward_dim": 8}


def make_checkpoint(
    file: Path,
    classes: tuple[str, ...],
    *,
    num_segments: int = 10,
    widths: tuple[int, int, int] = (768, 768, 512),
    kind: str = "real",
    gate: str = "video/visual",
    threshold: float = 0.5,
) -> Path:
    """Write a checkpoint of an MM-CSE that knows nothing."""
    sizes = dict(zip(("audio_dim", "visual_dim", "motion_dim"), widths, strict=True))
    arguments = {**SMALL, **sizes, "num_classes": len(classes), "num_segments": num_segments}
    torch.manual_seed(0)
    network = MMCSE(**arguments)
    card = {
        "format": CARD_FORMAT,
        "model": {"_target_": "mmcse.models.MMCSE", **arguments},
        "evaluation": {"gate": gate, "threshold": threshold},
        "packages": [],
        "classes": list(classes),
        "data": None,
        "data_kind": kind,
    }
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, CARD: card}, file)
    return file
