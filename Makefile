# Every target creates .venv when it is missing; all it needs is Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types bench chaos soak hosts slurm mpi docs clean

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-examples: $(BIN)/python pyproject.toml
	$(PIP) -e '.[examples]'
	touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml
	$(PIP) -e '.[examples,test]'
	touch $@

$(VENV)/.installed-bench: $(BIN)/python pyproject.toml
	$(PIP) -e '.[bench]'
	touch $@

$(VENV)/.installed-hpc: $(VENV)/.installed-test
	$(PIP) -e '.[hpc]'
	touch $@

$(VENV)/.installed-docs: $(BIN)/python pyproject.toml
	$(PIP) -e '.[examples,docs]'
	touch $@

demo: $(VENV)/.installed-examples
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/run.py

chaos: $(VENV)/.installed-test
	$(BIN)/python -m tests.chaos.table

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.chaos.table --times 10

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

hosts: $(VENV)/.installed-test # needs root
	$(BIN)/python -m tests.hosts.run

slurm: $(VENV)/.installed-hpc # needs Debian's slurm-wlm and munge
	$(BIN)/python -m tests.slurm.run

mpi: $(VENV)/.installed-hpc # needs an MPI
	$(BIN)/python -m tests.mpi.run

clean:
	rm -rf $(VENV) data scratch docs/_build docs/*/generated docs/reference/*.rst .pytest_cache .mypy_cache .ruff_cache
