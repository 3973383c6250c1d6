"""How every figure looks: one style, one palette, one header that says what the data are, one way to a file."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.runs.render import HEADLINES
from mmcse.vocabulary import near_miss

try:
    from matplotlib import style
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter
except ImportError:
    raise UserError("Figures need matplotlib: pip install 'mmcse[plots]'.") from None

FORMATS = ("svg", "png", "pdf")

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008). No figure says anything by
colour alone: a shape, a hatching or a dash always says it too."""
GREY = "#767676"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK, YELLOW)
MARKERS = "osD^vPX<>pd"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))
HEAT = "cividis"
"""Colour map whose lightness grows evenly: it reads the same in grey and with any colour vision."""

_STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so figures are the same on every machine
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "text.parse_math": False,  # names of classes and runs may hold a dollar sign
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mmcse",  # the same figure gives the same bytes
}
_HEADER = 0.42
"""Inches above the axes, for the title and what the data are."""

Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in the style of this package, whatever the user's own settings of matplotlib are."""

    @wraps(draw)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with figure_style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made on drawing, by the settings of that moment
            return figure

    return wrapper


def figure_style() -> AbstractContextManager[None]:
    """The settings that figures are drawn with, and must be written with to be the same bytes again."""
    return style.context(["default", _STYLE])


def new_figure(width: float, height: float, *, title: str, kind: Kind) -> Figure:
    """An empty figure whose header holds the title and, unless the data are real, what they are.

    Args:
        width: in inches.
        height: in inches, without the header.
        title: one line.
        kind: what the data are.
    """
    total = height + _HEADER
    figure = Figure(figsize=(width, total), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, height / total))  # type: ignore[union-attr]
    figure.text(0.08 / width, 1 - 0.06 / total, title, size=10, weight="bold", va="top")
    if kind != "real":
        note = HEADLINES[kind].split(",")[0]
        figure.text(0.08 / width, 1 - 0.27 / total, note, size=7.5, weight="bold", color=VERMILLION, va="top")
    return figure


def save_figure(figure: Figure, file: str | os.PathLike[str]) -> None:
    """Write a figure, completely or not at all; the same figure gives the same bytes.

    Args:
        figure: what to write.
        file: its ending says in which form: .svg, .png or .pdf.

    Raises:
        UserError: another ending, or the disk is full.
    """
    ending = Path(file).suffix.removeprefix(".")
    if ending not in FORMATS:
        raise UserError(f"{file}: figures are written as {', '.join(FORMATS)}.{near_miss(ending, FORMATS)}")
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}[ending]
    with figure_style(), atomic_write(file) as handle:
        figure.savefig(handle, format=ending, metadata=undated, dpi=150)


def log_scale(axis: Axes, lowest: float | None = None) -> None:
    """Give an axes a logarithmic vertical axis with plain numbers: powers would need the mathematics that is off.

    Args:
        axis: whose vertical axis it is.
        lowest: where the axis turns linear, so that zero and negative values have a place; None where there are none.
    """
    if lowest is None:
        axis.set_yscale("log")
    else:
        axis.set_yscale("symlog", linthresh=lowest)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
