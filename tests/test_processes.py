"""Several processes give the scores of one, to the last bit, though they get different numbers of videos."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from mmcse.configuration import compose_config
from mmcse.data import simulated_bank
from mmcse.evaluate import evaluate
from mmcse.runs.record import read_record

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
PROGRAM = Path(__file__).with_name("ddp_program.py")


def evaluated(bank, processes, folder):
    """What each of the processes wrote."""
    folder.mkdir()
    command = [sys.executable, PROGRAM, bank, processes, folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240,
                          env=ONE_THREAD)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(file.read_text()) for file in sorted(folder.iterdir())]


def is_one_run(root):
    """The only run there is was trained to its end, and scores in one process what its record says."""
    [folder] = (file.parent for file in root.rglob("result.json"))
    record = read_record(folder)
    assert record["status"] == "ok"
    assert len((folder / "history.csv").read_text().splitlines()) == 1 + 2
    checkpoint = folder / "checkpoints" / "best.ckpt"
    alone = evaluate(compose_config("eval", [f"checkpoint={checkpoint}", "trainer.accelerator=cpu"]))
    assert alone["scores"] == record["scores"]["test"]


# CMPAE searches thresholds after training; of LFAV, some parameters have no gradient in its first epochs
@pytest.mark.parametrize("method", ["mmcse", "cmpae", "lfav"])
@pytest.mark.slow
def test_training_under_torchrun_is_one_run(smoke_bank, tmp_path, method):
    chosen = (f"model={method}", "stages=none", *tiny.data(smoke_bank), *tiny.TRAINING, "optimizer.lr=3e-3")
    words = (*chosen, *tiny.method(*chosen), f"run.root={tmp_path}")
    launcher = (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    )
    devices = ("trainer.devices=2", "+trainer.strategy=ddp_find_unused_parameters_true")
    command = (sys.executable, *launcher, "-m", "mmcse", "train", *words, *devices)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SIMULATED") == 1
    is_one_run(tmp_path)


@pytest.mark.slow
def test_processes_on_two_nodes_are_one_run(smoke_bank, tmp_path):
    """Both nodes are this machine, with a launcher each that knows the other only by its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("-m", "mmcse", "train", *tiny.data(smoke_bank), *tiny.NETWORK, *tiny.TRAINING, f"run.root={tmp_path}")
    words += ("trainer.devices=1", "+trainer.num_nodes=2", "+trainer.strategy=ddp_find_unused_parameters_true")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1")
    address = ("--master-addr=127.0.0.1", f"--master-port={port}")
    nodes = [
        subprocess.Popen((*launcher, f"--node-rank={rank}", *address, *words), text=True, env=ONE_THREAD,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        shown = [node.communicate(timeout=240) for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], shown
    assert "".join(out for out, _ in shown).count("SIMULATED") == 1
    is_one_run(tmp_path)


@pytest.mark.slow
def test_evaluation_in_two_processes_is_exact(tmp_path):
    widths = {"audio_dim": 6, "visual_dim": 5, "motion_dim": 4}
    bank = simulated_bank(tmp_path / "bank", preset="smoke", progress=False, train=4, val=12, test=23, **widths).folder
    [alone] = evaluated(bank, 1, tmp_path / "one")
    first, second = evaluated(bank, 2, tmp_path / "two")
    assert (alone["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    assert first["scores"] == second["scores"] == alone["scores"]
    assert first["F"] == second["F"] == alone["F"]
    scores = {name: score for stage in alone["scores"].values() for name, score in stage.items()}
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["val/Avg"] != scores["test/Avg"] > 0
