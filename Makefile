# Everything a person or a CI job does here. Each target sets up what it needs in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# pip options for the set-up: on Linux without a GPU, the smaller torch comes with
#   make setup PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
ARGS ?=
TABLES ?= 2 3 4 6
SEEDS ?= 3
# two processes of one thread each: small networks gain nothing from more threads
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help setup train sweep sweep-all report bench test test-fast test-minimum browser lint audit reliability fuzz notebooks format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/.done ## install mmcse and its tools into .venv

$(VENV)/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

train: setup ## simulate a small data set, train MM-CSE on it, test it (a few minutes; ARGS="key=value ...")
	$(BIN)/mmcse train experiment=quickstart $(ARGS)

# the rows of tables as `experiment=` takes them; the full model is one configuration: several tables share its runs
comma := ,
space := $(subst ,, )
commas = $(subst $(space),$(comma),$(strip $(1)))
rows = $(patsubst experiments/%.yaml,%,$(sort $(wildcard $(1:%=experiments/table%/*.yaml))))
same_as_table2_full := table3/full table4/all table6/lambda_0.1
numbers = $(call commas,$(shell seq 0 $$(($(1) - 1))))
# worlds, then seeds, then rows: a sweep that is stopped has whole tables, of fewer runs
SWEEP = $(BIN)/mmcse train -m $(if $(DATA),data=$(DATA)) $(if $(WORLDS),data.bank.world=$(call numbers,$(WORLDS))) \
	seed=$(call numbers,$(SEEDS))

sweep: setup ## train a whole table (TABLE=3 SEEDS=5 [WORLDS=3] [DATA=llp_clip_clap] [ARGS="key=value ..."])
	$(if $(TABLE),,$(error Which table? make sweep TABLE=3))
	$(SWEEP) experiment=$(call commas,$(call rows,$(TABLE))) $(ARGS)

sweep-all: setup ## train all ablation tables, or those of TABLES="2 3" (takes what sweep takes)
	$(SWEEP) experiment=$(call commas,$(filter-out $(same_as_table2_full),$(call rows,$(TABLES)))) $(ARGS)

report: setup ## collect the results of all runs, and write the pages that are made of them
	$(if $(wildcard runs),$(BIN)/mmcse collect runs)
	$(BIN)/mmcse report --reproduction docs/REPRODUCTION.md
	$(BIN)/mmcse report --model-zoo docs/model-zoo.md
	$(BIN)/mmcse report --methods docs/methods-on-simllp.md

bench: setup ## speed and memory against the literal implementation, on an idle machine; writes benchmarks/
	$(BIN)/mmcse bench --threads 2 --out benchmarks $(ARGS)

test: lint browser ## everything that CI runs: lint, fast tests, slow tests
	$(PYTEST) -m "not slow"
	$(PYTEST) -m slow

test-fast: setup ## the fast tests only (under two minutes)
	$(PYTEST) -m "not slow"

# Chromium is no Python package: where we may, we install it; elsewhere the tests of web pages are skipped without it
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends chromium; } \
	|| echo "No Chromium: the tests of web pages are going to be skipped."

lint: setup ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

audit: setup ## look for unsafe code (bandit) and for dependencies with known holes (pip-audit, needs a network)
	$(BIN)/bandit -q -c pyproject.toml -r src
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

reliability: setup ## kills, faults, fuzzing and the soak at full length (half an hour); writes docs/RELIABILITY.md
	MMCSE_EVIDENCE=tests/reliability/evidence.json MMCSE_FUZZ_EXAMPLES=200 MMCSE_SOAK_RUNS=200 OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -p no:xdist tests/reliability --deselect tests/reliability/test_reliability_page.py
	$(BIN)/python tests/reliability/page.py

fuzz: setup ## fuzz the readers, guided by coverage (SECONDS=600)
	$(BIN)/python -m pip install --quiet atheris
	$(BIN)/python tests/reliability/fuzz_readers.py $(or $(SECONDS),600)

notebooks: setup ## run all notebooks, with a training of one epoch
	MMCSE_EPOCHS=1 $(BIN)/python -m pytest --nbmake notebooks/*.ipynb

test-minimum: ## the fast tests with the oldest versions that are supported, in .venv-minimum
	test -x .venv-minimum/bin/python || $(PYTHON) -m venv .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet $(PIP_FLAGS) -c constraints-minimum.txt -e ".[plots,report,sweeps,slurm]" \
	  pytest hypothesis jsonschema pillow playwright axe-playwright-python
	OMP_NUM_THREADS=1 .venv-minimum/bin/python -m pytest -m "not slow"

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; runs and data stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
