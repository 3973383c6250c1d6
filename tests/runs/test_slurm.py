"""A sweep on Slurm: the real launcher and its job scripts, with stand-ins for the four commands of a cluster."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

import tiny
from mmcse.runs.record import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="job scripts are shell scripts"),
]

SBATCH = """
    #!{python}
    # runs all tasks of the job's array, one after another, and says what Slurm says
    import os, pathlib, re, subprocess, sys
    script, cluster = pathlib.Path(sys.argv[-1]), pathlib.Path(__file__).parent
    text = script.read_text()
    (cluster / "script").write_text(text)
    last = int(re.search(r"--array=0-([0-9]+)", text)[1])
    for task in range(last + 1):
        variables = dict(SLURM_JOB_ID=str(100 + task), SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(task))
        variables |= dict(SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0", SLURM_PROCID="0")
        variables |= dict(SLURM_LOCALID="0", SLURM_JOB_NODELIST="node1")
        command = "sleep 2; exec bash " + str(script)  # the pickled job comes after the answer
        subprocess.Popen(["bash", "-c", command], env=os.environ | variables, start_new_session=True,
                         stdout=subprocess.DEVNULL, stderr=(cluster / "errors").open("a"))
    print("Submitted batch job 7")
"""
SRUN = """
    #!/bin/bash
    # srun --unbuffered --output FILE --error FILE command...
    shift 5
    "$@"
    echo "7_$SLURM_ARRAY_TASK_ID|COMPLETED|node1" >> "$(dirname "$0")/states"
"""
SACCT = """
    #!/bin/bash
    echo "JobID|State|NodeList"
    cat "$(dirname "$0")/states" 2> /dev/null
    exit 0
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder of commands at the front of the path."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": "#!/bin/sh"}.items():
        (folder / name).write_text(dedent(text).strip().replace("{python}", sys.executable) + "\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_every_job_of_a_sweep_is_one_of_the_cluster(cluster, smoke_bank, tmp_path):
    pytest.importorskip("submitit")
    root = tmp_path / "runs"
    words = ["train", *tiny.data(smoke_bank), *tiny.NETWORK, *tiny.TRAINING, "threads=1", f"run.root={root}", "-m"]
    words += ["launcher=slurm", "hydra.launcher.partition=short", "experiment=table3/full", "seed=0,1"]
    done = subprocess.run((sys.executable, "-m", "mmcse", *words), capture_output=True, text=True, timeout=300)
    errors = cluster / "errors"
    assert done.returncode == 0, done.stderr + (errors.read_text() if errors.exists() else "")
    script = (cluster / "script").read_text()
    for line in ("--partition=short", "--array=0-1%2", "--cpus-per-task=4", "--gpus-per-node=1", "--mem=16GB"):
        assert f"#SBATCH {line}" in script
    records = [read_record(file.parent) for file in sorted(root.rglob("result.json"))]
    assert [(record["status"], record["config"]["seed"]) for record in records] == [("ok", 0), ("ok", 1)]
    assert "Avg on test of 2 runs" in done.stdout


def test_without_a_cluster_it_says_so(smoke_bank, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["train", *tiny.data(smoke_bank), *tiny.NETWORK, *tiny.TRAINING, f"run.root={tmp_path}", "-m"]
    words += ["launcher=slurm", "experiment=table3/full", "seed=0,1"]
    done = subprocess.run((sys.executable, "-m", "mmcse", *words), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "srun" in done.stderr
    assert "Traceback" not in done.stderr
