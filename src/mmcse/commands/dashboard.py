"""`mmcse dashboard`: a workspace at Weights & Biases for runs that were mirrored there."""

import argparse
from typing import Any

from mmcse.commands.shared import Subcommands

FIGURES = ("curves", "classes", "confusion", "cooccurrence", "reliability", "thresholds")
"""Of `mmcse.figures.run_figures`, those that every run of MM-CSE has."""

NOTE = """Bars and curves are means over seeds, with their standard deviation; rows are experiments, apart for each kind
of data. Test scores are those of the epoch that was best on validation. **Scores on SIMULATED features say nothing
about LLP**, and are not to be held against numbers from real data."""


def add(commands: Subcommands) -> None:
    """Define the command."""
    parser = commands.add_parser(
        "dashboard",
        help="make a W&B workspace for mirrored runs",
        description="Make a workspace at Weights & Biases for runs that were trained with logger=wandb: test scores, "
        "validation curves, losses, scores by class and figures, means over seeds. Each call makes a new one.",
        epilog="example: mmcse dashboard --project mmcse --sweep 2026-11-23-13-05-27-123456",
    )
    parser.add_argument("--project", default="mmcse", help="default: mmcse")
    parser.add_argument("--entity", help="user or team (default: the API key's own)")
    parser.add_argument("--sweep", metavar="GROUP", help="only the runs of a group (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build the workspace; print it, or save it and print where it is.

    Raises:
        UserError: a library or the API key is missing, or W&B refuses.
    """
    from mmcse.errors import UserError

    try:
        import wandb
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise UserError(f"`mmcse dashboard` needs {error.name}: pip install 'mmcse[dashboard]'") from error
    if arguments.dry_run:
        spec = workspace(arguments.entity or "ENTITY", arguments.project, arguments.sweep)._to_model().spec
        print(spec.model_dump_json(by_alias=True, exclude_none=True, indent=2))
        return 0
    wandb.setup(wandb.Settings(silent=True))
    if not wandb.login(prompt=False, verify=False):
        raise UserError(
            "There is no API key of W&B: `wandb login`, or set WANDB_API_KEY. (--dry-run shows what would be sent.)"
        )
    try:
        entity = arguments.entity or wandb.Api().default_entity or ""
        print(workspace(entity, arguments.project, arguments.sweep).save().url)
    except Exception as error:
        where = f"{arguments.entity}/{arguments.project}" if arguments.entity else arguments.project
        raise UserError(f"W&B did not take the workspace of {where}: {error}") from error
    return 0


def workspace(entity: str, project: str, sweep: str | None) -> Any:
    """The workspace as wandb-workspaces has it.

    Args:
        entity: user or team.
        project: theirs.
        sweep: the group of runs that is shown; None shows all.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.expr import And

    from mmcse.evaluation.fscores import SCORE_KEYS

    scores = ("Avg", *SCORE_KEYS, "video/F1")
    spread: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    sections = {
        "About": [wr.MarkdownPanel(markdown=NOTE)],
        "Test": [wr.BarPlot(title=name, metrics=[f"test/{name}"], **spread) for name in scores],
        "Validation": [wr.LinePlot(title=name, x="epoch", y=[f"val/{name}"], **spread) for name in scores],
        "Losses": [
            wr.LinePlot(title="total", x="epoch", y=["train/total"], **spread),
            wr.LinePlot(title="every term", x="epoch", metric_regex="train/.*"),
            wr.LinePlot(title="learning rate", x="epoch", y=["lr"]),
        ],
        "Classes": [wr.WeavePanelSummaryTable(table_name="per_class")],
        "Figures": [wr.MediaBrowser(title=name, media_keys=[f"figures/{name}"]) for name in FIGURES],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"mmcse: {sweep}" if sweep else "mmcse",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=And(ws.Metric("Group") == sweep) if sweep else "",
            groupby=[ws.Config("data_kind"), ws.Config("run.name")],
            pinned_columns=["summary:test/Avg", "summary:test/video/F1", "summary:best_epoch"],
        ),
    )
