# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 The data
# How many videos and events there are, which events are heard and which are seen, and how long they last.
# The labels are LLP's where `ANNOTATIONS` names a folder with its files, and simulated ones (SimLLP) where it is empty.

# %% tags=["parameters"]
import os

ANNOTATIONS = os.environ.get("MMCSE_ANNOTATIONS", "")  # folder with LLP's AVVP_*.csv files; empty: SimLLP

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from mmcse.data import Annotations, read_annotations
from mmcse.data.simllp.settings import preset_settings
from mmcse.data.simllp.simulate import SimLLP
from mmcse.data.simllp.storage import NOTE
from mmcse.evaluation import find_events
from mmcse.figures import new_figure, styled
from mmcse.figures.style import BLUE, GREEN, ORANGE
from mmcse.runs.render import HEADLINES
from mmcse.vocabulary import LLP_CLASSES, display_name


# %%
def labels(split):
    if ANNOTATIONS:
        return read_annotations(ANNOTATIONS, split)
    made = SimLLP(preset_settings("full"), world=0).labels(split)
    return Annotations(split, tuple(made.ids.tolist()), made.weak, made.true_audio, made.true_visual)


splits = {split: labels(split) for split in ("train", "val", "test")}
is_real = bool(ANNOTATIONS) and not (Path(ANNOTATIONS).parent / NOTE).is_file()
kind = "real" if is_real else "simulated"
Markdown(f"**{HEADLINES[kind]}.**")

# %% [markdown]
# ## Videos
# A *weak* label names the events that occur somewhere, in some modality. LLP's training videos carry nothing else;
# validation and test videos are annotated segment by segment, for sound and picture apart.

# %%
rows = [
    "| split | videos | annotated by segment | events of a video, mean | videos with one event |",
    "|---|---|---|---|---|",
]
for name, split in splits.items():
    events = split.weak.sum(axis=1)
    dense = "no" if split.true_audio is None else "yes"
    rows.append(f"| {name} | {len(events):,} | {dense} | {events.mean():.2f} | {100 * (events == 1).mean():.0f} % |")
Markdown("\n".join(rows))

# %% [markdown]
# ## Heard, seen, or both
# Segments of the test videos by event. What is heard need not be seen: that is why audio and visual events are parsed
# apart.

# %%
audio, visual = splits["test"].true_audio, splits["test"].true_visual
by_modality = {
    "heard and seen": (audio & visual, GREEN, ""),
    "heard only": (audio & ~visual, BLUE, "///"),
    "seen only": (~audio & visual, ORANGE, "..."),
}


@styled
def segments_by_class(parts, classes, *, kind, title):
    counts = {name: present.sum(axis=(0, 1)) for name, (present, _, _) in parts.items()}
    order = np.argsort(-sum(counts.values()))
    figure = new_figure(6.4, 0.17 * len(classes) + 0.9, title=title, kind=kind)
    axis, left = figure.subplots(), np.zeros(len(classes))
    style = {"edgecolor": "white", "height": 0.9}
    for name, (_, colour, hatch) in parts.items():
        axis.barh(range(len(classes)), counts[name][order], left=left, color=colour, hatch=hatch, label=name, **style)
        left += counts[name][order]
    axis.set_yticks(range(len(classes)), [display_name(classes[k]) for k in order])
    axis.set_ylim(len(classes) - 0.5, -0.5)
    axis.set_xlabel("segments")
    axis.legend(loc="lower right")
    return figure


segments_by_class(by_modality, LLP_CLASSES, kind=kind, title="Segments of each event, test")

# %% [markdown]
# ## How long events last
# A run of segments in which an event goes on is one event of the event-level scores. Many last for the whole video;
# the short ones are what is hard.


# %%
@styled
def durations(audio, visual, *, kind, title):
    figure = new_figure(6.4, 2.4, title=title, kind=kind)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name, present, colour in zip(axes, ("Audio", "Visual"), (audio, visual), (BLUE, ORANGE), strict=True):
        counts = np.bincount(find_events(present).duration, minlength=present.shape[1] + 1)[1:]
        axis.bar(range(1, len(counts) + 1), counts, color=colour)
        axis.set_title(f"{name}: {counts.sum():,} events", loc="left")
        axis.set_xlabel("duration (s)")
    axes[0].set_ylabel("events")
    return figure


durations(audio, visual, kind=kind, title="Durations of events, test")
