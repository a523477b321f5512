# Every target sets up what it needs in .venv and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-campaigns lint bench faults clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Overlander needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dask,postgres,sandbox,dev]'
	touch $@

demo: $(READY)
	$(BIN)/overlander demo

test: $(READY)
	$(BIN)/python -m pytest -m 'not benchmark and not faults and not campaign'

test-campaigns: $(READY)
	$(BIN)/python -m pytest -m campaign

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m pytest -m benchmark -s

faults: $(READY)
	$(BIN)/python -m pytest -m faults -s

clean:
	rm -rf $(VENV)
