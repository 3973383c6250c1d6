# Everything a person or a CI job does here. Each target sets up what it needs in .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# pip options for the set-up: on Linux without a GPU, the smaller torch comes with
#   make setup PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_FLAGS ?=
ARGS ?=
# two processes of one thread each: small networks gain nothing from more threads
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help setup train test test-fast lint format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/.done ## install mmcse and its tools into .venv

$(VENV)/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@

train: setup ## simulate a small data set, train MM-CSE on it, test it (a few minutes; ARGS="key=value ...")
	$(BIN)/mmcse train experiment=quickstart $(ARGS)

test: lint ## everything that CI runs: lint, fast tests, slow tests
	$(PYTEST) -m "not slow"
	$(PYTEST) -m slow

test-fast: setup ## the fast tests only (under two minutes)
	$(PYTEST) -m "not slow"

lint: setup ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches; runs and data stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
