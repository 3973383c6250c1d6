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
# # 03 The paper's tables and ours
# Reads the collected results (`mmcse collect`) and sets them beside the paper's numbers, as far as that is honest: only
# results on LLP's real features stand beside the paper's. Results on simulated features have tables of their own.

# %% tags=["parameters"]
import os

RESULTS = os.environ.get("MMCSE_RESULTS", "../experiments/results")  # folder of the collected results
TABLES = os.environ.get("MMCSE_TABLES", "")  # numbers of tables, such as "1,3"; empty: all of them

# %%
# %matplotlib inline
from collections import Counter
from pathlib import Path

from IPython.display import Markdown
from IPython.display import display as show

from mmcse.figures import table_figure
from mmcse.runs.collect import read_results
from mmcse.runs.paper import all_tables, paper_table
from mmcse.runs.render import render_markdown
from mmcse.runs.tables import result_tables

# %%
results = read_results(Path(RESULTS))
chosen = [paper_table(number) for number in TABLES.split(",")] if TABLES else list(all_tables().values())
tables = [filled for table in chosen if table.has_runs for filled in result_tables(table, results)]
kinds = Counter(result["data"]["kind"] for result in results)
Markdown("**Results: " + (", ".join(f"{n} on {kind} data" for kind, n in kinds.items()) or "none yet") + ".**")

# %% [markdown]
# ## On real features: beside the paper
# "needs real LLP features" means that nobody has put results on LLP into `RESULTS` yet.

# %%
show(Markdown(render_markdown([table for table in tables if table.kind == "real"])))

# %% [markdown]
# ## On other data: without the paper
# These tables compare methods with each other under the assumptions of SimLLP. They say nothing about LLP.

# %%
others = [table for table in tables if table.kind != "real"]
show(Markdown(render_markdown(others) or "There are none."))

# %% [markdown]
# ## As bars
# Mean, 95 % interval of the mean, and every single run.

# %%
for table in tables:
    if any(line.runs for line in table.lines):
        show(table_figure(table))
