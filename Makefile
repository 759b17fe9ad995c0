# `make demo` and `make test` are all a fresh machine needs; `make help` lists the rest.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
GOVERNANCE_HOME ?= artifacts
ONLY ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types contracts check dev bench screenshots clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup: $(INSTALLED)  ## create .venv with everything in it

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found on PATH (set PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "could not create $(VENV): on Debian and Ubuntu, install python3-venv"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version): once, about a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## replay a production trace through the gate and print the five answers
	@GOVERNANCE_HOME=$(GOVERNANCE_HOME) $(BIN)/governance demo

test: $(INSTALLED)  ## run all tests (the bounded version of the slow ones)
	@$(BIN)/python -m pytest

test-slow: $(INSTALLED)  ## run all tests, the slow ones whole
	@GOVERNANCE_SLOW=1 $(BIN)/python -m pytest

lint: $(INSTALLED)  ## ruff: lint and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy, strict
	@$(BIN)/mypy

contracts: $(INSTALLED)  ## the layers, by import-linter
	@$(BIN)/lint-imports --no-cache

check: lint types contracts  ## everything but the tests

# `dagster dev` warns of its own successor; nothing else is filtered.
dev: export PYTHONWARNINGS = ignore:Function `dev_command` is superseded
dev: $(INSTALLED)  ## start Dagster's UI, sensors and schedules on 127.0.0.1:3000
	@export GOVERNANCE_HOME=$(GOVERNANCE_HOME) && \
		export DAGSTER_HOME=$$($(BIN)/python -m governance_pipeline.dagster_home) && \
		exec $(BIN)/dagster dev -w workspace.yaml --host 127.0.0.1

screenshots: $(INSTALLED)  ## draw the pictures in docs/images with a headless browser
	@mkdir -p docs/images
	@SCREENSHOT_FOLDER=docs/images $(BIN)/python -m pytest -m browser

clean:  ## remove the environment and everything derived
	rm -rf $(VENV) artifacts .mypy_cache .ruff_cache .pytest_cache

bench: $(INSTALLED)  ## measure every figure against its floor (ONLY=name for one)
	@$(BIN)/python -m benchmarks $(ONLY)
