"""Configurations: their keys, how they are composed, and what they may call."""

from mmcse.configuration.calls import TRUSTED, check_calls
from mmcse.configuration.composition import (
    check_overrides,
    compose_config,
    config_folder,
    experiment_folder,
    experiments,
    explain_composition,
    register,
)
from mmcse.configuration.schema import EvalSettings, EvaluationSettings, RunSettings, TrainSettings

__all__ = [
    "TRUSTED",
    "EvalSettings",
    "EvaluationSettings",
    "RunSettings",
    "TrainSettings",
    "check_calls",
    "check_overrides",
    "compose_config",
    "config_folder",
    "experiment_folder",
    "experiments",
    "explain_composition",
    "register",
]
