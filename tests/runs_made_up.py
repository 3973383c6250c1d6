"""Records of runs that never were."""

from copy import deepcopy
from functools import cache

from omegaconf import OmegaConf

from mmcse.configuration import compose_config
from mmcse.data.simllp.settings import preset_settings
from mmcse.evaluation.fscores import SCORE_KEYS
from mmcse.runs.identity import run_identity

KEYS = (*SCORE_KEYS, "Avg", "video/F1", "video/F1_macro")


@cache
def composed(name, overrides):
    return OmegaConf.to_container(compose_config("train", ["data=bank", f"experiment={name}", *overrides]))


def record(name="table3/full", seed=0, world=0, avg=60.0, kind="simulated", status="ok", overrides=(), **more):
    """A record as a run writes it, whose scores are all `avg`."""
    config = deepcopy(composed(name, tuple(overrides)))
    source = preset_settings("small").describe(world) if kind == "simulated" else {"folders": {"features": "/secret"}}
    digest = f"{kind}-{world}"
    made = {
        "format": 1, "status": status, "name": name, "seed": seed, "tags": [], "identity": run_identity(config, digest),
        "data": {"kind": kind, "digest": digest, "source": source},
        "config": config | {"run": {"root": "/secret"}},
        "environment": {"mmcse": "0", "git": None, "python": "3", "versions": {}, "threads": 1, "platform": "secret"},
        "started": "then", "finished": "then", "seconds": {"total": 1.0},
    }  # fmt: skip
    if status == "ok":
        made |= {
            "scores": {split: dict.fromkeys(KEYS, avg) for split in ("val", "test")},
            "per_class": {"segment/A": {"F": [avg]}},
        }
    return made | more
