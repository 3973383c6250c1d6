"""The page on what was reproduced: three rungs of evidence, each with what stands behind it."""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from mmcse.configuration import experiment_folder, experiments
from mmcse.markdown import markdown_table
from mmcse.models import MMCSE, VALOR, count_parameters
from mmcse.models.efficiency import count_multiply_adds, random_features
from mmcse.required import assignment, required_values
from mmcse.runs.collect import Result
from mmcse.runs.paper import PaperRow, PaperTable, paper_table, paper_tables
from mmcse.runs.render import render_markdown
from mmcse.runs.tables import result_tables

SEEDS = "0,1,2,3,4"

_HEAD = """\
# What is reproduced, and how far

Written by `mmcse report --reproduction docs/REPRODUCTION.md`; do not edit. CI checks that it is what the results say.

Three rungs, from what is exact to what takes data that cannot be shipped:

1. **The evaluator** gives the official script's numbers, exactly.
2. **The networks** give the authors' numbers for the same weights, exactly, and have the paper's size.
3. **Training** gives the paper's tables: needs LLP's features. What was run without them is marked simulated.
"""

_RETRAINING = """\
## 3. Retraining

Every table below is made from the records in `experiments/results`. A table of real data stands beside the paper's
numbers; one of simulated data never does: it shows that every experiment runs, and how its rows compare in a made-up
world, not how they compare on LLP. Means and intervals are over independent values: seeds where there is one data set,
else data sets (worlds), each the mean over its seeds.

- **agrees**: the paper's number lies in the 95 % interval, and the interval is at most ±1 point wide
- **higher**, **lower**: than the paper's number (t-test, 5 %); or than the reference row of an ablation, in paired runs
  (same data, same seed), corrected by Holm for the rows of the table
- **not separable**: neither can be said of so few runs
- **not run**: no record; or a method that this suite does not have
- **needs real LLP features**: no run on real data was recorded
"""


def reproduction(results: Sequence[Result]) -> str:
    """The page, in Markdown; the same results give the same bytes."""
    parity: Any = OmegaConf.to_container(OmegaConf.load(experiment_folder() / "parity.yaml"))
    suite: Any = OmegaConf.to_container(OmegaConf.load(experiment_folder() / "suite.yaml"))
    precision = (t for t in result_tables(paper_table("precision"), results) if t.kind == "simulated")
    parts = [_HEAD, _evaluator(parity["evaluator"]), _networks(parity["network"]), _RETRAINING, suite["ablations"]]
    parts += [render_markdown(list(precision)), suite["precision"]]
    for table in paper_tables().values():
        if table.has_runs:
            parts += [render_markdown(result_tables(table, results)), _commands(table)]
    return "\n".join(parts)


def _evaluator(parity: dict[str, Any]) -> str:
    rows = ((name, *(f"{value:.9f}" for value in scores)) for name, scores in parity["scores"].items())
    table = markdown_table(("predictions", *parity["columns"]), rows)
    return f"## 1. Evaluator\n\n{parity['what']}\nAsserted by `{parity['test']}`.\n\n{table}\n"


def _networks(parity: list[dict[str, str]]) -> str:
    """Parity as asserted by tests, and size as counted here and now."""
    asserted = markdown_table(
        ("same weights, same input", "agreement", "asserted by"),
        ((line["what"], line["tolerance"], f"`{line['test']}`") for line in parity),
    )
    printed, widths = paper_tables()["5"].rows, (128, 2048, 512)
    sizes = []
    for row, network in ((printed["mmcse"], MMCSE(*widths)), (printed["valor"], VALOR(*widths))):
        parameters, _ = count_parameters(network)
        giga = count_multiply_adds(network, random_features(1, 10, widths)).total / 1e9
        sizes.append((row.label, f"{parameters:,}", f"{row.values[0]} M", f"{giga:.3f} G", f"{row.values[1]} G"))
    counted = markdown_table(("network", "parameters", "paper", "multiply-adds", "paper"), sizes)
    return (
        f"## 2. Networks\n\n{asserted}\n\n"
        "Size on VGGish/ResNet-152 features, beside the paper's Table 5 (`mmcse efficiency` has more):\n\n"
        f"{counted}\n"
    )


def _commands(table: PaperTable) -> str:
    lines = [f"How to fill Table {table.number}, given LLP's features:", "", "```bash"]
    lines += [command for row in table.rows.values() if row.runs for command in _row_commands(row)]
    lines += [f"mmcse collect runs && mmcse report --table {table.number}", "```"]
    if absent := [row.label for row in table.rows.values() if not row.runs]:
        lines += ["", f"Not part of this suite: {', '.join(absent)}."]
    return "\n".join((*lines, ""))


def _row_commands(row: PaperRow) -> list[str]:
    """What a user with features types for a row; experiments that name their data need only its folders."""
    name = row.runs[0]
    experiment: Any = OmegaConf.to_container(OmegaConf.load(experiments()[name]))
    names_data = any("override /data" in entry for entry in experiment.get("defaults", ()))
    data = [] if names_data else ["data=llp_clip_clap"]
    folders = ["data.bank.features=FEATURES", "data.bank.annotations=ANNOTATIONS"]
    required = required_values(name)
    words = [f"experiment={name}", *data, *folders, *(assignment(*value) for value in required.items())]
    return [*required.values(), f"mmcse train -m {' '.join(words)} seed={SEEDS}"]
