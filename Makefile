# make bench: from nothing to numbers.  make test: from nothing to green.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

OLDEST := .venv-oldest
QUICK := not slow and not cluster and not gpu
OF_PRIVATE_PARTS := tests/rank tests/launch tests/api/test_watching.py \
	$(addprefix tests/end_to_end/,test_axes.py test_scripts.py test_tensor_parallel.py test_pipeline.py test_saving.py)

# What `make gpu-wheels` fetches wheels for: the machine with the GPU.
GPU_PYTHON ?= 3.12
GPU_TORCH ?= 2.11

.PHONY: bench test test-all test-oldest test-slurm lint dictionary parity certificate flops faults faults-nodes gpu gpu-wheels clean

bench: $(VENV)/installed
	$(BIN)/bench run --suite quick

# Tests that start ranks and measure times run two at a time on any machine, so that they do not crowd each other.
test: $(VENV)/installed
	$(BIN)/pytest -n auto --dist loadfile -m "not launch and $(QUICK)"
	$(BIN)/pytest -n 2 --dist loadfile -m "launch and $(QUICK)"

test-all: $(VENV)/installed test-oldest
	$(BIN)/pytest

# What depends on private parts of torch, under the oldest torch that is promised. Its environment takes 5 GB and more
# than three minutes to install, so this is in test-all and not in .ci/run.
test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/pytest -m "$(QUICK)" $(OF_PRIVATE_PARTS)

$(OLDEST)/installed: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet "torch==2.11.*" --editable ".[dev]"
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tables of both pages are made from those of the code.
dictionary: $(VENV)/installed
	$(BIN)/python -m bench.report.column_docs docs/options.md docs/columns.md

parity: $(VENV)/installed
	$(BIN)/python tests/benchmarks/parity.py > docs/parity.md

flops: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.flops

certificate: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.certificate
	$(BIN)/python -m tests.benchmarks.statistics_rates
	$(BIN)/python -m tests.benchmarks.change_points

faults: $(VENV)/installed
	$(BIN)/pytest tests/end_to_end/test_faults.py tests/end_to_end/test_resume.py -k "not random" --write-faults

# Runs as jobs of a Slurm that the tests bring up; it says which of Debian's packages to install. 2 minutes; time limits,
# which Slurm looks at every half a minute, are in test-all.
test-slurm: $(VENV)/installed
	$(BIN)/pytest -rs -m "not slow" tests/end_to_end/test_slurm.py

# Hosts as network namespaces, which needs root and says so.
faults-nodes: $(VENV)/installed
	$(BIN)/python tests/benchmarks/faults_nodes.py

# A first GPU in 8 minutes, with the Python that has torch and without a network: no environment is made. What is
# missing beside torch is installed from wheels/, which `make gpu-wheels` fills where there is a network.
gpu:
	$(PYTHON) tests/benchmarks/gpu.py $(GPU_ARGS)

gpu-wheels:
	$(PYTHON) tests/benchmarks/gpu_wheels.py --python $(GPU_PYTHON) --torch $(GPU_TORCH)

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build dist
