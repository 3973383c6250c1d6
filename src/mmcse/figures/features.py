"""Features inside the network on a plane (paper, Figure 5)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmcse.data.manifest import Kind
from mmcse.errors import UserError
from mmcse.figures.style import BLACK, COLOURS, GREY, MARKERS, YELLOW, new_figure, styled
from mmcse.vocabulary import display_name

SEVERAL, NONE, BACKGROUND = -1, -2, -3
"""Labels of a point that is not of one class: a segment with several events, with none, a background feature."""
_OTHERS = {
    SEVERAL: ("several events", "+", GREY),
    NONE: ("no event", ".", "#c4c4c4"),
    BACKGROUND: ("background", "x", BLACK),
}
_COLOURS = [colour for colour in COLOURS if colour not in (BLACK, YELLOW)]
"""Of classes. Their number has no divisor in common with that of the markers: cycled together, they make as many looks
as there are pairs of both."""


def tsne(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Lay features out on a plane by t-SNE (van der Maaten and Hinton, 2008), neighbours beside neighbours.

    Args:
        features: (n, D).
        seed: of the layout.

    Returns:
        (n, 2) positions, without a unit.

    Raises:
        UserError: fewer than four points, or scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError("A t-SNE needs scikit-learn: pip install 'mmcse[plots]'.") from None
    if len(features) < 4:
        raise UserError(f"A t-SNE needs at least four points; there are {len(features)}.")
    perplexity = min(30.0, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)


def segment_labels(true: np.ndarray) -> np.ndarray:
    """The class of each segment's one event, or `SEVERAL`, or `NONE`.

    Args:
        true: (n, K) annotation.
    """
    events = true.sum(axis=1)
    return np.select([events == 0, events > 1], [NONE, SEVERAL], true.argmax(axis=1))


def classwise_points(
    event_features: np.ndarray, true: np.ndarray, background: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The decoupled features of the events that are there, and those of the background.

    Args:
        event_features: (n, K, d).
        true: (n, K) annotation of the same segments.
        background: (n, d), where there is one.

    Returns:
        Points (m, d), and their labels (m,): classes and `BACKGROUND`.
    """
    segment, label = np.nonzero(true)
    points = event_features[segment, label]
    if background is None:
        return points, label
    return np.concatenate((points, background)), np.concatenate((label, np.full(len(background), BACKGROUND)))


@styled
def embedding(
    holistic: np.ndarray,
    true: np.ndarray,
    event_features: np.ndarray,
    background: np.ndarray | None,
    classes: Sequence[str],
    *,
    kind: Kind,
    title: str,
    seed: int = 0,
) -> Figure:
    """Draw the holistic features of segments beside their decoupled, class-wise ones (paper, Figure 5).

    Each side is a t-SNE of its own. On the left a point is a segment; on the right it is an event of a segment, or its
    background.

    Args:
        holistic: (n, D) features of one modality, before decoupling.
        true: (n, K) annotation of the same segments.
        event_features: (n, K, d) decoupled features.
        background: (n, d), or None for a network without.
        classes: the vocabulary, K names.
        kind: what the data are.
        title: what is shown.
        seed: of the layouts.

    Raises:
        UserError: shapes differ, there are too few events, or scikit-learn is not installed.
    """
    if not (len(holistic) == len(true) == len(event_features)) or true.shape[1] != len(classes):
        raise UserError(
            f"Expected features and truth of the same n segments and {len(classes)} classes; found {holistic.shape}, "
            f"{event_features.shape} and {true.shape}."
        )
    whole = segment_labels(true)
    parts, labels = classwise_points(event_features, true, background)
    figure = new_figure(7.6, 3.5 + 0.15 * -(-len(classes) // 5), title=title, kind=kind)
    left, right = figure.subplots(1, 2)
    _scatter(left, tsne(holistic, seed=seed), whole, classes)
    _scatter(right, tsne(parts, seed=seed), labels, classes)
    left.set_title("holistic features of segments", loc="left")
    right.set_title("class-wise features of their events", loc="left")
    entries = {
        label: handle for axis in (left, right) for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    names = (*[display_name(name) for name in classes], *(name for name, _, _ in _OTHERS.values()))
    in_order = [name for name in names if name in entries]
    figure.legend([entries[n] for n in in_order], in_order, loc="outside lower center", ncols=5, markerscale=1.4)
    return figure


def _scatter(axis: Axes, positions: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    for label in (*_OTHERS, *range(len(classes))):
        where = labels == label
        if not where.any():
            continue
        name, marker, colour = _OTHERS.get(label) or (
            display_name(classes[label]), MARKERS[label % len(MARKERS)], _COLOURS[label % len(_COLOURS)]
        )  # fmt: skip
        axis.scatter(*positions[where].T, s=9, marker=marker, color=colour, linewidths=0.6, label=name)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[["top", "right"]].set_visible(True)
