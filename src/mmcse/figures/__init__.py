"""Figures: a function each, from arrays to a matplotlib figure that says what its data are.

Needs the extra `plots`; nothing that trains imports it. A figure of your own: a function that fills `new_figure`, under
`styled`.
"""

from mmcse.figures.assemble import example_videos, run_figures, table_figure, video_timeline
from mmcse.figures.bars import ablation_bars, class_scores
from mmcse.figures.calibration import reliability_diagram, threshold_map
from mmcse.figures.curves import training_curves
from mmcse.figures.features import embedding
from mmcse.figures.maps import confusion_maps, cooccurrence_maps
from mmcse.figures.style import figure_style, new_figure, save_figure, styled
from mmcse.figures.timeline import timeline

__all__ = [
    "ablation_bars",
    "class_scores",
    "confusion_maps",
    "cooccurrence_maps",
    "embedding",
    "example_videos",
    "figure_style",
    "new_figure",
    "reliability_diagram",
    "run_figures",
    "save_figure",
    "styled",
    "table_figure",
    "threshold_map",
    "timeline",
    "training_curves",
    "video_timeline",
]
