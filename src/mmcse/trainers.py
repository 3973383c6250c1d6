"""What the suite asks of the settings of a trainer, in training and in evaluation."""

import os
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig

from mmcse.errors import UserError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_trainer(trainer: DictConfig) -> None:
    """Refuse settings of Lightning's that this suite does not go along with.

    Raises:
        UserError: several devices though no launcher started several processes, or a precision of the data too.
    """
    if "LOCAL_RANK" not in os.environ and _num_devices(trainer) != 1:
        raise UserError(
            f"trainer.devices is {trainer.devices}: several processes are started from outside, with "
            "`torchrun --nproc-per-node=N -m mmcse train trainer.devices=N "
            "+trainer.strategy=ddp_find_unused_parameters_true ...`."
        )
    if trainer.precision not in PRECISIONS:
        raise UserError(f"trainer.precision is {trainer.precision!r}; expected one of {', '.join(PRECISIONS)}.")


def _num_devices(trainer: DictConfig) -> Any:
    """How many devices are asked for, as far as it can be told."""
    devices = trainer.devices
    if isinstance(devices, ListConfig):
        return len(devices)
    if str(devices) in ("auto", "-1"):
        on_gpu = trainer.accelerator in ("auto", "gpu", "cuda")
        return max(1, torch.cuda.device_count()) if on_gpu else 1
    return int(devices) if str(devices).isdigit() else devices
