"""Figures inside a page: drawn as SVG, with text that stays text."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from mmcse.callbacks.history import read_history
from mmcse.runs.outputs import SplitOutputs
from mmcse.runs.reported import ReportedRun
from mmcse.runs.tables import ResultTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A figure of a page: what it shows, and its SVG element."""

    title: str
    svg: Markup


def run_drawings(run: ReportedRun, output: SplitOutputs | None) -> list[Drawing]:
    """The figures of one run.

    Args:
        run: its history is read.
        output: what it says about the test videos; without it there are the curves of its training alone.

    Raises:
        UserError: matplotlib is not installed, or the history is damaged.
    """
    from mmcse.figures import run_figures, training_curves

    history = read_history(run.history) if run.history.is_file() else None
    kept = run.record.get("selection", {}).get("epoch")
    if output is not None:
        return [drawing(figure) for _, figure in run_figures(output, history, best_epoch=kept)]
    if history is None:
        return []
    kind, title = run.record["data"]["kind"], f"Training: {run.name}"
    return [drawing(training_curves(history, kind=kind, title=title, best_epoch=kept))]


def table_drawings(tables: Sequence[ResultTable]) -> list[Drawing]:
    """The bars of tables that have results."""
    from mmcse.figures import table_figure

    return [drawing(table_figure(table)) for table in tables]


def drawing(figure: "Figure") -> Drawing:
    """Turn a figure into an element of a page; the same figure gives the same bytes.

    Args:
        figure: with a header (see `new_figure`), whose first line is also what a screen reader says instead of it.
    """
    from matplotlib import rc_context

    from mmcse.figures import figure_style

    title = figure.texts[0].get_text()
    # The salt keeps the names of clip paths apart that several figures of one page define.
    with figure_style(), rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = text.getvalue()
    element = element[element.index("<svg") :]
    used = set(re.findall(r"""(?:url\(|href=")#([^")]+)""", element))
    # matplotlib names every part of a figure, and the same names come back in the next one.
    element = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", element)
    labelled = element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    # matplotlib escapes every text that it writes into an SVG
    return Drawing(title, Markup(labelled))  # nosec B704
