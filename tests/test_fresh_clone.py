"""What a stranger does first: clone the repository, type the commands of the README, and have them work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NEEDS = "# needs "
"""What follows is not on every machine: LLP's files, weights of encoders, a network."""
SHORTENED = {
    "make train": 'make train ARGS="trainer.max_epochs=1 data.bank.preset=smoke model.num_layers=1"',
    "make test": "make help",  # the tests are running already
}
"""Commands that take minutes, and what stands for them here."""


def readme_commands(text: str) -> list[str]:
    """The lines of the blocks of shell commands, in order, without those that say what else they need."""
    lines = [line for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
             for line in block.replace("\\\n", " ").splitlines()]  # fmt: skip
    commands = [line.partition(" #")[0].strip() for line in lines if NEEDS not in line]
    return [command for command in commands if command and not re.match(r"git clone|cd ", command)]


def run(command: str, folder: Path, environment: dict[str, str], timeout: int = 240) -> subprocess.CompletedProcess:
    return subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True,
                          timeout=timeout)  # fmt: skip


def clean_environment(clone: Path) -> dict[str, str]:
    """The environment without what belongs to the checkout under test; the clone's programs come first."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "MMCSE_SHARED", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "HYDRA_FULL_ERROR")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    own = Path(sys.prefix) / "bin"
    path = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != own]
    return kept | {"PATH": os.pathsep.join([str(clone / ".venv" / "bin"), *path]), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone of the last commit, set up by its own Makefile."""
    if not (shutil.which("git") and shutil.which("make") and (REPOSITORY / ".git").exists()):
        pytest.skip("needs git, make and a checkout")
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    environment = clean_environment(folder)
    index = run(f"{sys.executable} -m pip download --quiet --no-deps --dest {folder.parent} filelock", folder.parent,
                environment)  # fmt: skip
    if index.returncode != 0:
        pytest.skip("no package index can be reached")
    base = Path(sys._base_executable)  # the interpreter this environment was made of
    done = run(f"make setup PYTHON={base}", folder, environment, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


def test_commands_are_found_in_a_readme():
    text = (
        "```bash\ngit clone x\nmake train     # minutes\n\nmmcse a \\\n  b=1\nmmcse c  # needs LLP\n"
        "mmcse d  # needs weights\n```\n"
        "```python\nimport x\n```\n```bash\nmake test\n```\n"
    )
    assert [" ".join(command.split()) for command in readme_commands(text)] == [
        "make train",
        "mmcse a b=1",
        "make test",
    ]


def test_the_readme_has_commands():
    commands = readme_commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert commands[0] == "make train"
    assert sum(command.startswith("mmcse ") for command in commands) >= 3


@pytest.mark.slow
def test_every_command_of_the_readme_works(clone):
    environment = clean_environment(clone)
    for command in readme_commands((clone / "README.md").read_text(encoding="utf-8")):
        done = run(SHORTENED.get(command, command), clone, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "train" in command:
            assert "SIMULATED" in done.stdout
    records = list((clone / "runs").rglob("result.json"))
    assert any("quickstart" in str(record) for record in records)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == "", "the commands leave files that .gitignore does not know"
