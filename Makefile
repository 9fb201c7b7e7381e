# For users: make demo, make test. While working: make check. `make help` lists all targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install demo lint check test clean

PYTHON ?= python3
TORCH ?= -r requirements/torch.txt

WORKERS ?= 2

PY := .venv/bin/python
BIN := .venv/bin
PIP := $(PY) -m pip install --disable-pip-version-check
BASE := .venv/.installed-base
TEST := .venv/.installed-test

DEMO := demo_output
DEMO_CONFIG := configs/demo/segformer-gmmseg_street_scenes.py
DEMO_CHECKPOINT = $$(cat $(DEMO)/train/last_checkpoint)

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16
	@echo 'Variables: PYTHON=python3.12 picks the interpreter, TORCH="..." what pip installs as torch (see README.md),'
	@echo 'WORKERS=2 how many processes run the tests.'

# ---- environment -----------------------------------------------------------------------------------------------
# venv writes bin/activate last, so its presence means that the environment is whole.
.venv/bin/activate:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("error: Python 3.10 or newer is needed, found " \
	  + sys.version.split()[0] + "; name another one: make PYTHON=python3.11")'
	@echo "==> making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

# torch goes first and by itself: nothing installed later can then replace the build that was chosen.
INSTALLED := requirements/base.txt requirements/mmseg.txt requirements/transformers.txt requirements/pretrained.txt

$(BASE): requirements/torch.txt $(INSTALLED) pyproject.toml setup.py | .venv/bin/activate
	@echo "==> installing torch"
	@$(PIP) $(TORCH)
	@echo "==> installing the pinned requirements"
	@$(PIP) $(addprefix -r ,$(INSTALLED))
	@echo "==> installing gmmseg and anomaly (editable)"
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(TEST): requirements/test.txt $(BASE)
	@echo "==> installing what the tests need"
	@$(PIP) -r requirements/test.txt
	@touch $@

install: $(BASE) ## make .venv and install everything at the pinned versions

# ---- what people run -------------------------------------------------------------------------------------------
demo: $(BASE) ## generated street scenes: train, evaluate, draw heatmaps (about 6 minutes on 2 cores)
	@echo "==> step 1 of 4: installed"
	@echo "==> step 2 of 4: generating street scenes"
	@$(BIN)/anomaly data street_scenes
	@echo "==> step 3 of 4: training a GMMSeg SegFormer"
	@$(BIN)/gmmseg train $(DEMO_CONFIG) --work-dir $(DEMO)/train
	@echo "==> step 4 of 4: closed-set mIoU, anomaly metrics and heatmaps"
	@$(BIN)/anomaly evaluate $(DEMO_CONFIG) $(DEMO_CHECKPOINT) --sets street_scenes --report --out $(DEMO)/ood_eval
	@echo "==> done. Metrics: $(DEMO)/ood_eval/results.json and results.csv. Open $(DEMO)/ood_eval/report.html in a browser; heatmaps: $(DEMO)/ood_eval/heatmaps/"

lint: $(TEST) ## style, types and layers
	@echo "==> style"
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@echo "==> types"
	@$(PY) -m mypy
	@echo "==> layers"
	@$(BIN)/lint-imports --no-cache

check: lint ## the fast part of `make test`, for use while working
	@echo "==> fast tests"
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

test: lint ## everything: style, types, layers, all tests, doc examples
	@echo "==> tests and doc examples"
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --doctest-modules gmmseg anomaly tests

clean: ## remove the demo's output and caches; .venv, data/ and work_dirs/ stay
	rm -rf $(DEMO) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find gmmseg anomaly tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
