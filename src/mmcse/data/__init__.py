"""Annotations, features and the banks they are packed into."""

from typing import TYPE_CHECKING, Any

from mmcse.data.annotations import Annotations, Blemish, read_annotations
from mmcse.data.bank import BankSplit, BankWriter, FeatureBank
from mmcse.data.check import CheckReport, check_bank, check_layout
from mmcse.data.prepare import prepare_bank
from mmcse.data.simllp import simulated_bank, write_valor_layout

if TYPE_CHECKING:
    from mmcse.data.datamodule import AVVPDataModule

__all__ = [
    "AVVPDataModule",
    "Annotations",
    "BankSplit",
    "BankWriter",
    "Blemish",
    "CheckReport",
    "FeatureBank",
    "check_bank",
    "check_layout",
    "prepare_bank",
    "read_annotations",
    "simulated_bank",
    "write_valor_layout",
]


def __getattr__(name: str) -> Any:
    """The data module on first use: it imports lightning, which takes longer than all that most commands do."""
    if name == "AVVPDataModule":
        from mmcse.data.datamodule import AVVPDataModule

        return AVVPDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
