"""Evaluates an untrained network on a bank in one process or several, and writes what every process holds.

python ddp_program.py BANK PROCESSES FOLDER
"""

import json
import sys
from pathlib import Path

import lightning as L
import torch

from mmcse.data import AVVPDataModule
from mmcse.models import MMCSE
from mmcse.parser import VideoParser


def parser_of(data: AVVPDataModule) -> VideoParser:
    """The same weights in every process."""
    torch.manual_seed(0)
    widths = {f"{stream}_dim": width for stream, width in data.bank.dims.items()}
    network = MMCSE(**widths, num_classes=len(data.bank.classes), num_segments=data.bank.num_segments, hidden_dim=16,
                    class_dim=8, num_layers=1, num_heads=2, feedforward_dim=8)  # fmt: skip
    return VideoParser(network, lambda out, batch: {}, num_classes=len(data.bank.classes), threshold=0.45)


def main(bank: str, processes: str, folder: str) -> None:
    """Test and validate; one file for each process."""
    torch.set_num_threads(1)
    data = AVVPDataModule(bank, eval_batch_size=5)
    parser, count = parser_of(data), int(processes)
    trainer = L.Trainer(accelerator="cpu", devices=count, strategy="ddp" if count > 1 else "auto", logger=False,
                        use_distributed_sampler=False, enable_progress_bar=False, enable_checkpointing=False,
                        enable_model_summary=False)  # fmt: skip
    stages = {"val": trainer.validate, "test": trainer.test}
    scores = {stage: run(parser, data, verbose=False)[0] for stage, run in stages.items()}
    written = {"processes": trainer.world_size, "scores": scores, "F": parser.per_class["event/A"]["F"].tolist()}
    (Path(folder) / f"{trainer.global_rank}.json").write_text(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:])
