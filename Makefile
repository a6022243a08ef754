# `make help` lists what can be done. Everything runs in .venv, which `make setup` makes from the lock.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first of these that is a Python 3.11 or newer.
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13; do \
  $$each -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$each && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
EXTRA_DATA := control/demo/requirements.txt examples/requirements.txt
DEMO ?=
TEST ?=
PROOF ?=

$(READY): requirements.lock $(EXTRA_DATA) pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is missing: sudo apt-get install python3.11 python3.11-venv (or set PYTHON=)"; exit 1; }
	@command -v git >/dev/null || { echo "git is missing: sudo apt-get install git"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || { sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt; }
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes $(addprefix -r ,$(EXTRA_DATA))
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

.PHONY: help setup demo test proof lint docs lock clean

help: ## List what can be done
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv from the lock
	@echo "ready: $(BIN)/convoy --help"

demo: $(READY) ## Run the whole story: four versions, three regions, live traffic (options in DEMO=)
	$(BIN)/convoy demo $(DEMO)

test: $(READY) ## Run the tests (options in TEST=)
	$(BIN)/python -m pytest $(TEST)

proof: $(READY) ## Prove at length: killed anywhere, mutants, soak, hostile bodies (one part in PROOF="sweep", "mutants", "soak" or "bodies")
	PYTHONPATH=tests:tests/bentos $(BIN)/python -m proof $(PROOF)

lint: $(READY) ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY) ## Check that the documents say what is so
	$(BIN)/python -m pytest -n 0 tests/docs

lock: $(READY) ## Compile requirements.lock and bentos/gpu.lock anew from pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements.lock
	$(UV) pip compile --group gpu --no-deps --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" -o bentos/gpu.lock

clean: ## Delete what was made here, but not the stacks' data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
