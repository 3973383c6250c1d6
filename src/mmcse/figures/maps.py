"""Classes against classes: learnt co-occurrence (paper, Figure 4), and which classes are taken for which."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.figures.style import HEAT, new_figure, styled
from mmcse.figures.timeline import TRACKS
from mmcse.vocabulary import display_name

DIRECTIONS = {
    "aa": "audio queries, audio keys",
    "av": "audio queries, visual keys",
    "va": "visual queries, audio keys",
    "vv": "visual queries, visual keys",
}
_CELL, _LABELS = 0.13, 1.25
"""Inches of a cell (a line of small text fits), and beside the cells for the names of classes."""
_BAR = {"shrink": 0.8, "aspect": 30}
"""Proportions of a colour bar."""


@styled
def cooccurrence_maps(maps: Mapping[str, np.ndarray], classes: Sequence[str], *, kind: Kind, title: str) -> Figure:
    """Draw learnt co-occurrence maps, averaged over videos and segments (paper, Figure 4).

    A row says how much of its attention a class gives to every class; each row sums to one. All maps share a scale.

    Args:
        maps: (K, K), rows are queries, by direction: "aa", "av", "va", "vv", or those of them that there are.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown.

    Raises:
        UserError: there is no map, an unknown direction, or a map is not (K, K).
    """
    shown = {name: np.asarray(maps[name]) for name in DIRECTIONS if name in maps}
    if not shown or len(shown) < len(maps):
        raise UserError(f"Expected maps named {', '.join(DIRECTIONS)} or some of them; found {list(maps)}.")
    figure, axes = _panels(shown, classes, kind, title)
    # a frequent class may get several times the attention of all others, which would all look the same beside it
    scale = Normalize(*np.quantile(np.stack(list(shown.values())), (0.01, 0.99)))
    images = []
    for name, axis in axes.items():
        images.append(_heat_map(axis, shown[name], classes, scale))
        axis.set_title(f"{name}: {DIRECTIONS[name]}", loc="left")
    figure.colorbar(images[0], ax=list(axes.values()), label="mean attention", extend="both", **_BAR)
    return figure


def confusion(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How often one event is predicted, though absent, where another one is present.

    Args:
        predicted: (N, T, 2, K) decisions.
        true: (N, T, 2, K) annotation.

    Returns:
        (2, K, K) shares: of the segments of audio / visual with event i, those with event j predicted falsely; on
        the diagonal, those with event i missed. nan for an event that never is there.
    """
    K = true.shape[-1]
    present, decided = (np.moveaxis(array, 2, 0).reshape(2, -1, K) for array in (true, predicted))
    together = np.einsum("msi,msj->mij", present.astype(float), (decided & ~present).astype(float))
    missed = (present & ~decided).sum(axis=1)
    together[:, range(K), range(K)] = missed
    with np.errstate(invalid="ignore"):
        return together / present.sum(axis=1)[:, :, None]


@styled
def confusion_maps(
    predicted: np.ndarray, true: np.ndarray, classes: Sequence[str], *, kind: Kind, title: str
) -> Figure:
    """Draw which events are falsely predicted beside which (see `confusion`), for audio and for visual segments.

    Args:
        predicted: (N, T, 2, K) decisions.
        true: (N, T, 2, K) annotation.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown.

    Raises:
        UserError: shapes differ.
    """
    if predicted.shape != true.shape or true.ndim != 4:
        raise UserError(f"Predictions are {predicted.shape}, the truth {true.shape}; expected the same (N, T, 2, K).")
    shown = dict(zip(TRACKS, 100 * confusion(predicted, true), strict=True))
    figure, axes = _panels(shown, classes, kind, title)
    images = []
    for track, axis in axes.items():
        images.append(_heat_map(axis, shown[track], classes, PowerNorm(0.5, 0, 100)))  # small shares count too
        axis.set_title(track, loc="left", weight="bold")
        axis.set_ylabel("present")
        axis.set_xlabel("predicted though absent\n(on the diagonal: missed)")
    figure.colorbar(images[0], ax=list(axes.values()), label="share of the row's segments (%)", **_BAR)
    return figure


def _panels(
    maps: Mapping[str, np.ndarray], classes: Sequence[str], kind: Kind, title: str
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with square axes for every map, two in a line."""
    K = len(classes)
    if wrong := {name: values.shape for name, values in maps.items() if values.shape != (K, K)}:
        raise UserError(f"Expected maps of shape {(K, K)} for {K} classes; found {wrong}.")
    rows, columns = -(-len(maps) // 2), min(2, len(maps))
    side = max(K * _CELL, 1.9) + _LABELS
    figure = new_figure(columns * side + 0.9, rows * (side + 0.25), title=title, kind=kind)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for spare in axes[len(maps) :]:
        spare.set_axis_off()
    return figure, dict(zip(maps, axes, strict=False))


def _heat_map(axis: Axes, values: np.ndarray, classes: Sequence[str], scale: Normalize) -> AxesImage:
    image = axis.imshow(values, cmap=HEAT, norm=scale, interpolation="nearest")
    places, names = range(len(classes)), [display_name(name) for name in classes]
    axis.set_xticks(places, names, rotation=90, size=6)
    axis.set_yticks(places, names, size=6)
    axis.tick_params(length=0)
    axis.set_facecolor("#d9d9d9")  # what is nan: an event that never occurs
    return image
