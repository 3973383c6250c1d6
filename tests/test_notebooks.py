"""The notebooks: scripts and .ipynb say the same, outputs stay out of git, and all of them run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmcse.runs.render import HEADLINES

jupytext = pytest.importorskip("jupytext", reason="notebooks need the extra plots")

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(NOTEBOOKS.glob("*.py"))


def cells(notebook):
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in notebook.cells]


def test_every_notebook_is_a_pair():
    assert len(SCRIPTS) == 5
    assert {file.stem for file in SCRIPTS} == {file.stem for file in NOTEBOOKS.glob("*.ipynb")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_script_and_notebook_say_the_same(script):
    """Where they do not: `jupytext --sync notebooks/*.py`."""
    notebook = jupytext.read(script.with_suffix(".ipynb"))
    assert cells(jupytext.read(script)) == cells(notebook)
    assert notebook.metadata["jupytext"]["formats"] == "ipynb,py:percent"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_outputs_are_not_kept(script):
    code = [cell for cell in jupytext.read(script.with_suffix(".ipynb")).cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [cell.execution_count for cell in code] == [None] * len(code)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_parameters_come_first(script):
    notebook = jupytext.read(script)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.metadata["tags"] == ["parameters"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Copies of the notebooks, executed by nbmake on the smallest simulated data."""
    pytest.importorskip("nbmake")
    folder = tmp_path_factory.mktemp("notebooks")
    for script in SCRIPTS:
        shutil.copy(script.with_suffix(".ipynb"), folder)
    environment = os.environ | {
        "MMCSE_WORK": str(folder / "work"),
        "MMCSE_RESULTS": str(NOTEBOOKS.parent / "experiments" / "results"),
        "MMCSE_TABLES": "3,baselines",
        "MMCSE_EPOCHS": "1",
        "OMP_NUM_THREADS": "1",
    }
    pytest_alone = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull]
    options = ["--nbmake", "--overwrite", "--nbmake-kernel=python3", "--nbmake-timeout=900"]
    command = [sys.executable, *pytest_alone, *options, *map(str, sorted(folder.glob("*.ipynb")))]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return {file.stem: jupytext.read(file) for file in folder.glob("*.ipynb")}


def outputs(notebook, kind):
    data = [out.get("data", {}) for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    return [of_output[kind] for of_output in data if kind in of_output]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("01_data", 2),
        ("02_train_and_look_inside", 4),
        ("03_tables", 3),
        ("04_qualitative", 7),
        ("05_your_predictions", 2),
    ],
)
def test_notebook_runs_says_what_its_data_are_and_shows_its_figures(name, figures, executed):
    sentence = outputs(executed[name], "text/markdown")[0]
    assert "on simulated data" in sentence if name == "03_tables" else HEADLINES["simulated"] in sentence
    assert len(outputs(executed[name], "image/png")) == figures


@pytest.mark.slow
def test_paper_and_simulated_numbers_never_share_a_table(executed):
    real, simulated = outputs(executed["03_tables"], "text/markdown")[1:3]
    assert "paper" in table_cells(real)
    assert "paper" not in table_cells(simulated)
    assert "SIMULATED" not in real
    assert "SIMULATED" in simulated


def table_cells(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return {cell.strip() for line in lines for cell in line.split("|")}


@pytest.mark.slow
def test_real_annotations_are_shown_as_such(shared, tmp_path):
    from nbclient import NotebookClient

    for name in ("01_data", "05_your_predictions"):
        notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
        environment = os.environ | {"MMCSE_ANNOTATIONS": str(shared / "llp"), "MMCSE_WORK": str(tmp_path)}
        client = NotebookClient(notebook, timeout=600, kernel_name="python3")
        client.execute(env=environment)
        assert outputs(notebook, "text/markdown")[0] == f"**{HEADLINES['real']}.**"
