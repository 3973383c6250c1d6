"""How a training went: every loss term and the validation scores, epoch by epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.figures.style import BLACK, COLOURS, DASHES, GREY, MARKERS, YELLOW, log_scale, new_figure, styled

SCORES = ("segment/Type", "segment/Event", "event/Type", "event/Event", "Avg", "video/F1")
"""Validation scores that are drawn, where the history has them."""
_COLOURS = (BLACK, *(colour for colour in COLOURS if colour not in (BLACK, YELLOW)))


@styled
def training_curves(
    history: Mapping[str, Sequence[float] | np.ndarray],
    *,
    kind: Kind,
    title: str,
    best_epoch: int | None = None,
    scores: Sequence[str] = SCORES,
) -> Figure:
    """Draw every loss term of training, and scores on validation, over epochs.

    Args:
        history: columns of equal length: "epoch", "train/<term>", "val/<score>", as `read_history` returns them.
        kind: what the data are.
        title: what is shown.
        best_epoch: marked, where it is given: the epoch that was kept and tested.
        scores: which of the scores to draw.

    Raises:
        UserError: the history has no epochs or no losses.
    """
    epochs = np.asarray(history.get("epoch", ()))
    losses = {name.removeprefix("train/"): np.asarray(v) for name, v in history.items() if name.startswith("train/")}
    drawn = {name: np.asarray(history[f"val/{name}"]) for name in scores if f"val/{name}" in history}
    if not len(epochs) or not losses:
        raise UserError(f"A history needs the columns epoch and train/...; found {', '.join(history) or 'none'}.")
    figure = new_figure(7.4, 3.4, title=title, kind=kind)
    left, right = figure.subplots(1, 2)
    _lines(left, epochs, losses)
    positive = all((values > 0).all() for values in losses.values())
    log_scale(left, lowest=None if positive else 1e-3)  # a term may be zero or, as a cosine, negative
    left.set_title("training losses", loc="left")
    left.set_ylabel("mean over the epoch")
    _lines(right, epochs, drawn)
    right.set_title("validation scores", loc="left")
    right.set_ylabel("%")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.grid()
        axis.xaxis.get_major_locator().set_params(integer=True)
        if best_epoch is not None:
            axis.axvline(best_epoch, color=GREY, linestyle=":", linewidth=1.2)
            axis.annotate(f"kept: {best_epoch}", (best_epoch, 0), (2, 2), xycoords=axis.get_xaxis_transform(),
                          textcoords="offset points", va="bottom", size=6, color=GREY)  # fmt: skip
        if axis.lines:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _lines(axis: Axes, epochs: np.ndarray, series: Mapping[str, np.ndarray]) -> None:
    for index, (name, values) in enumerate(series.items()):
        axis.plot(epochs, values, color=_COLOURS[index % len(_COLOURS)], linestyle=DASHES[index % len(DASHES)],
                  marker=MARKERS[index % len(MARKERS)], markevery=max(1, len(epochs) // 8), label=name)  # fmt: skip
