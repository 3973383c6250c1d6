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
# # 02 Train MM-CSE and look inside
# A small training, its curves, what it learnt of each class, and the features and maps inside the network.

# %% tags=["parameters"]
import os

PRESET = os.environ.get("MMCSE_PRESET", "smoke")  # size of the simulated data: smoke (seconds), small (minutes) or full
EPOCHS = int(os.environ.get("MMCSE_EPOCHS", "12"))
WORK = os.environ.get("MMCSE_WORK", "../runs/notebooks")  # where the notebooks keep simulated data and runs
OVERRIDES = []  # of `mmcse train`, for example ["data=llp_clip_clap", "data.bank.features=..."]

# %%
# %matplotlib inline
from IPython.display import Markdown

from mmcse.application import quieten_lightning
from mmcse.callbacks.history import read_history
from mmcse.configuration import compose_config
from mmcse.figures import class_scores, cooccurrence_maps, embedding, training_curves
from mmcse.runs.outputs import parse_split
from mmcse.runs.render import HEADLINES
from mmcse.train import summary, train

quieten_lightning()

# %% [markdown]
# The configuration is that of `mmcse train experiment=quickstart`, smaller. The same configuration is the same run:
# when this cell is executed again, nothing is trained twice.

# %%
config = compose_config(
    "train", ["experiment=quickstart", f"data.bank.preset={PRESET}", "model.num_layers=1", *OVERRIDES]
)
config.trainer.max_epochs, config.data.batch_size, config.optimizer.lr = EPOCHS, 16, 1e-3
config.run.root, config.run.progress = f"{WORK}/runs", "lines"
if "folder" in config.data.bank:
    config.data.bank.folder = f"{WORK}/simllp-{PRESET}"
run = train(config)
print(summary(run))

# %%
outputs = parse_split(run.folder / "checkpoints" / "best.ckpt", features=True)
shown = {"kind": outputs.kind}
Markdown(f"**{HEADLINES[outputs.kind]}.**")

# %% [markdown]
# ## Training
# Every loss term, and scores on validation; the epoch with the best segment-level Type is kept.

# %%
training_curves(
    read_history(run.folder / "history.csv"), best_epoch=run.record["selection"]["epoch"], title="Training", **shown
)

# %% [markdown]
# ## Classes
# F-scores over all test segments together.

# %%
f_scores = {stream: run.record["per_class"][f"segment/{stream}"]["F"] for stream in ("A", "V", "AV")}
class_scores(f_scores, outputs.classes, title=f"F-scores: {outputs.title}", **shown)

# %% [markdown]
# ## Inside: features
# CAFD splits a segment's holistic feature into one for each class and one for the background (the paper's Figure 5).
# On the left, segments with several events lie between the classes; on the right each event has a place of its own.

# %%
features = outputs.features
embedding(
    features.holistic[:, 0], features.true[:, 0], features.event_features[:, 0], features.background[:, 0],
    outputs.classes, title=f"Audio features: {outputs.title}", **shown,
)  # fmt: skip

# %% [markdown]
# ## Inside: co-occurrence
# What each class attends to, averaged over test videos and segments (the paper's Figure 4).

# %%
cooccurrence_maps(outputs.cooccurrence, outputs.classes, title=f"Co-occurrence: {outputs.title}", **shown)
