# make bench: from nothing to numbers.  make test: from nothing to green.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench test test-all lint dictionary parity certificate faults clean

bench: $(VENV)/installed
	$(BIN)/bench run --suite quick

test: $(VENV)/installed
	$(BIN)/pytest -m "not slow and not cluster and not gpu"

test-all: $(VENV)/installed
	$(BIN)/pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

dictionary: $(VENV)/installed
	$(BIN)/python -m bench.report.dictionary > results/README.md

parity: $(VENV)/installed
	$(BIN)/python tests/benchmarks/parity.py > docs/parity.md

certificate: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.certificate

faults: $(VENV)/installed
	$(BIN)/pytest tests/test_faults.py tests/test_resume.py -k "not random" --write-faults

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist
