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
# # 04 Qualitative results
# Single videos as timelines, MM-CSE beside a baseline (the paper's Figures 3 and 6), and what to look at when a class
# goes wrong: confusion, calibration and thresholds.

# %% tags=["parameters"]
import os

RUN = os.environ.get("MMCSE_RUN", "")  # a run's folder; empty: a small one is trained on simulated features
BASELINE = os.environ.get("MMCSE_BASELINE", "")  # another one on the same data; empty: VALOR, small, likewise
VIDEOS = []  # ids of videos to show; empty: from the worst parsed to the best
EPOCHS = int(os.environ.get("MMCSE_EPOCHS", "12"))  # of the small runs
WORK = os.environ.get("MMCSE_WORK", "../runs/notebooks")  # where the notebooks keep simulated data and runs

# %%
# %matplotlib inline
from pathlib import Path

from IPython.display import Markdown
from IPython.display import display as show

from mmcse.application import quieten_lightning
from mmcse.configuration import compose_config
from mmcse.figures import confusion_maps, example_videos, reliability_diagram, threshold_map, video_timeline
from mmcse.runs.outputs import parse_split
from mmcse.runs.render import HEADLINES
from mmcse.train import train

quieten_lightning()


# %%
def small_run(*method):
    config = compose_config("train", [*method, "data.bank.preset=smoke", "model.num_layers=1"])
    config.trainer.max_epochs, config.data.batch_size, config.optimizer.lr = EPOCHS, 16, 1e-3
    config.scheduler.warmup_epochs = 2
    config.data.bank.folder = f"{WORK}/simllp-smoke"
    config.run.root, config.run.progress = f"{WORK}/runs", "none"
    return train(config).folder


run = Path(RUN) if RUN else small_run("model=mmcse")
baseline = Path(BASELINE) if BASELINE else small_run("model=valor", "model.hidden_dim=256")
ours, theirs = (parse_split(folder / "checkpoints" / "best.ckpt") for folder in (run, baseline))
shown = {"kind": ours.kind}
Markdown(f"**{HEADLINES[ours.kind]}.**")

# %% [markdown]
# ## Timelines
# A filled bar is correct, a dashed outline was missed, a hatched bar is false.

# %%
for row in [ours.ids.index(video) for video in VIDEOS] or example_videos(ours, 4):
    show(video_timeline(ours, row, theirs))

# %% [markdown]
# ## Confusion
# What is predicted falsely beside which event; a column that is bright from top to bottom is an event that is predicted
# too often everywhere.

# %%
confusion_maps(ours.predicted, ours.true, ours.classes, title=f"Confusion: {ours.title}", **shown)

# %% [markdown]
# ## Can the probabilities be believed?

# %%
reliability_diagram(ours.segment_prob, ours.true, title=f"Calibration: {ours.title}", **shown)

# %% [markdown]
# ## Would other thresholds be better?
# A threshold that is to be used must be chosen on validation; these are test videos, so this is only for looking.

# %%
threshold_map(
    ours.segment_prob, ours.true, ours.classes, passed=ours.passed, threshold=ours.threshold,
    title=f"F-score by threshold: {ours.title}", **shown,
)  # fmt: skip
