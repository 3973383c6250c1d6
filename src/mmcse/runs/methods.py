"""The page that compares all methods of the suite on the same simulated data: scores, differences, and what each costs.

Its rows are those of the table "baselines" in `experiments/suite.yaml`, which also holds in words what is the same for
all of them, and what the numbers say.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mmcse.configuration import compose_config, experiment_folder, experiments
from mmcse.data.simllp.settings import PRESETS
from mmcse.markdown import markdown_table
from mmcse.models import count_parameters
from mmcse.models.efficiency import count_multiply_adds, random_features
from mmcse.runs.collect import Result
from mmcse.runs.paper import paper_table
from mmcse.runs.render import HEADLINES, compared_column, comparison_grid, score_grid
from mmcse.runs.tables import Line, ResultTable, data_name, fill_table, settings_of
from mmcse.vocabulary import LLP_CLASSES

TABLE, DATA = "baselines", PRESETS["small"]

_PAGE = """\
# The methods on simulated data

Written by `mmcse report --methods docs/methods-on-simllp.md`; do not edit. CI checks that it is what the records in
`experiments/results` say.

**{headline}.** Data: {data}.

{rule}
{notes}
{table}

Scores are F1 in percent on the test videos, at the epoch that each method's rule selects on validation: mean ± standard
deviation over worlds. Differences are between runs on the same world with the same seed; what their verdicts mean is
said below. Parameters and multiply-adds are those of a forward pass over one video at inference, counted on features of
these widths (of the pair of networks that DHHN is tested as, those of one). Seconds are those of an epoch in training
with the validation after it, of the fastest run, because other programs ran beside some of them; of a method of several
stages, those of all stages together, without the files that are made between them. {machine}

## What it says

{reading}
## {column}, compared

Intervals and tests are Student's t over worlds, each the mean over its seeds. p is corrected (Holm) for the rows of the
table; where it is below 5 %, a row is **higher** or **lower**.

{comparison}
"""


def methods_page(results: Sequence[Result]) -> str:
    """The page, in Markdown; the same results give the same bytes.

    Args:
        results: of any runs. Those on SimLLP's preset "small" with experiments as they are shipped are on the page.
    """
    shown = [result for result in results if _belongs(result)]
    name = data_name(shown[0]) if shown else "no results were collected"
    table = fill_table(paper_table(TABLE), "simulated", name, {}, shown)
    own: Any = OmegaConf.to_container(OmegaConf.load(experiment_folder() / "suite.yaml"))
    head, *rows = comparison_grid(table)
    return _PAGE.format(
        headline=HEADLINES["simulated"],
        data=name,
        rule=own["methods"]["rule"],
        notes="".join(f"{note}\n\n" for note in table.notes),
        table=_scores_and_costs(table, shown),
        machine=_machine(table, shown),
        reading=own["methods"]["reading"],
        column=compared_column(table),
        comparison=markdown_table(head, rows),
    )


def _belongs(result: Result) -> bool:
    data = result["data"]
    return (
        result["status"] == "ok"
        and data["kind"] == "simulated"
        and data["source"] == DATA.describe(data["source"].get("world"))
        and not settings_of(result)
    )


def _scores_and_costs(table: ResultTable, results: Sequence[Result]) -> str:
    column = compared_column(table)
    reference = table.paper.rows[table.paper.reference or ""].label
    head, *rows = score_grid(table)
    head += [f"{column}, from {reference}", "parameters", "multiply-adds (G)", "s an epoch"]
    whole = ([*row, _change(line, column), *_costs(line, results)] for row, line in zip(rows, table.lines, strict=True))
    return markdown_table(head, whole)


def _change(line: Line, column: str) -> str:
    """How far a row is from the reference, and whether that is more than chance."""
    cell = line.cells[column]
    return f"{cell.change.mean:+.1f}, {cell.change_verdict}" if cell.change else ""


def _costs(line: Line, results: Sequence[Result]) -> tuple[str, str, str]:
    """Parameters, multiply-adds and seconds; empty of what was not trained."""
    [name] = line.row.runs
    if name not in experiments():
        return "", "", ""
    parameters, multiply_adds = _size(name)
    seconds = _seconds(name, results)
    return f"{parameters:,}", f"{multiply_adds / 1e9:.3f}", "" if seconds is None else f"{seconds:.1f}"


@cache
def _size(name: str) -> tuple[int, int]:
    """Parameters and multiply-adds of an experiment's network at inference."""
    widths = DATA.audio_dim, DATA.visual_dim, DATA.motion_dim
    sizes = dict(zip(("audio_dim", "visual_dim", "motion_dim"), widths, strict=True))
    model = _config(name).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # where a network's work depends on what it finds, it finds the same
        network = instantiate(model, **sizes, num_classes=len(LLP_CLASSES), num_segments=DATA.num_segments)
        multiply_adds = count_multiply_adds(network, random_features(1, DATA.num_segments, widths))
    return count_parameters(network)[0], multiply_adds.total


def _seconds(name: str, results: Sequence[Result]) -> float | None:
    """Seconds of an epoch of every stage of an experiment, each of its fastest run; None where one has no record."""
    stages = _config(name).stages or ()
    total = 0.0
    for part in (*(f"{name}/{stage}" for stage in stages), name):
        epochs = [r["seconds"]["fit"] / r["config"]["trainer"]["max_epochs"] for r in results if r["name"] == part]
        if not epochs:
            return None
        total += min(epochs)
    return total


@cache
def _config(name: str) -> DictConfig:
    return compose_config("train", [f"experiment={name}"])


def _machine(table: ResultTable, results: Sequence[Result]) -> str:
    """What the seconds were measured on."""
    names = experiments().keys() & {name for line in table.lines for name in line.row.runs}
    trained = [result["environment"] for result in results if result["name"] in names]
    if not trained:
        return ""
    threads = sorted({environment["threads"] for environment in trained})
    processors = sorted({environment.get("processor") or "a processor of unknown name" for environment in trained})
    return f"Threads of a run: {_joined(threads)}; processor: {_joined(processors)}."


def _joined(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values))
