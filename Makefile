# Two commands for a newcomer: `make conformance` and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Five on two cores: scenarios wait more than they work.
WORKERS ?= 5
# A worker that has nothing left to do takes from another.
PARALLEL := -n $(WORKERS) --dist worksteal

# The suite starts Python by the hundred: whatever has been compiled is kept, as by default.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: conformance test check real setup clean help

help:
	@echo 'make conformance  run the conformance suite against the bundled server'
	@echo 'make test         run all tests of the three packages'
	@echo 'make check        lint, types, tidiness'
	@echo 'make real         run the suite against PostgreSQL 18 from the package index'

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@# Compiled here once, and not by all workers at the same time.
	@$(BIN)/python -m compileall -q spec impl conformance
	@$(BIN)/python -m pytest conformance/ tests/ --collect-only -qq > $(VENV)/collected
	@touch $@

$(VENV)/.ready-real: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,real]'
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
	$(BIN)/python -m pytest tests/test_tidy.py -q

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
