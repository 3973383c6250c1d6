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
# # 05 Bring your own predictions
# Scores and timelines of any method, without this suite's networks: all it takes is an `.npz` file with
#
# - `ids` (N,): the videos' names or ids, in any order
# - `audio`, `visual` (N, T, K): decisions (booleans) or probabilities, with any gate already applied
#
# as `numpy.savez(file, ids=ids, audio=audio, visual=visual)` writes it, and LLP's annotation files.

# %% tags=["parameters"]
import os

PREDICTIONS = os.environ.get("MMCSE_PREDICTIONS", "")  # your file; empty: an example is made
ANNOTATIONS = os.environ.get("MMCSE_ANNOTATIONS", "")  # folder with LLP's AVVP_*.csv files; empty: SimLLP's
SPLIT = "test"
THRESHOLD = 0.5  # least probability of a decision
NAME = "yours"
WORK = os.environ.get("MMCSE_WORK", "../runs/notebooks")  # where the notebooks keep simulated data and runs

# %%
# %matplotlib inline
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from mmcse.data import Annotations, read_annotations
from mmcse.data.simllp.settings import preset_settings
from mmcse.data.simllp.simulate import SimLLP
from mmcse.data.simllp.storage import NOTE
from mmcse.evaluation import parsing_scores, per_class_scores, read_predictions, save_predictions, score_table
from mmcse.figures import class_scores, timeline
from mmcse.runs.render import HEADLINES
from mmcse.vocabulary import LLP_CLASSES

# %%
if ANNOTATIONS:
    truth = read_annotations(ANNOTATIONS, SPLIT)
else:
    made = SimLLP(preset_settings("small"), world=0).labels(SPLIT)
    truth = Annotations(SPLIT, tuple(made.ids.tolist()), made.weak, made.true_audio, made.true_visual)
is_real = bool(ANNOTATIONS) and not (Path(ANNOTATIONS).parent / NOTE).is_file()
kind = "real" if is_real else "simulated"
Markdown(f"**{HEADLINES[kind]}.**")

# %% [markdown]
# The example, where no file is named: the video's own label in every segment. It is what a parser must beat.

# %%
file = Path(PREDICTIONS)
if not PREDICTIONS:
    file = Path(WORK) / "example-predictions.npz"
    everywhere = np.repeat(truth.weak[:, None], truth.true_audio.shape[1], axis=1)
    save_predictions(file, truth.names, everywhere, everywhere)
audio, visual = read_predictions(file, truth, threshold=THRESHOLD)

# %% [markdown]
# ## Scores
# The same numbers as `mmcse score`.

# %%
scores = parsing_scores(audio, visual, truth.true_audio, truth.true_visual)
print(score_table(scores, kind=kind, title=f"{SPLIT} · {NAME}"))

# %%
by_class = per_class_scores(audio, visual, truth.true_audio, truth.true_visual)
f_scores = {stream: by_class[f"segment/{stream}"]["F"] for stream in ("A", "V", "AV")}
class_scores(f_scores, LLP_CLASSES, kind=kind, title=f"F-scores: {NAME}, {SPLIT}")

# %% [markdown]
# ## A video
# The first one in which something was predicted falsely.

# %%
predicted, true = (np.stack(pair, axis=2) for pair in ((audio, visual), (truth.true_audio, truth.true_visual)))
video = int((predicted & ~true).any(axis=(1, 2, 3)).argmax())
timeline({NAME: predicted[video]}, true[video], LLP_CLASSES, kind=kind, title=f"Video {truth.ids[video]}")
