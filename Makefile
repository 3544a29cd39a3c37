# Every target sets up what it needs: a virtual environment in .venv, made once and re-used.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Up to four processes; an idle one takes tests of the busiest, since a long file, run whole as the
# last, leaves cores idle. Threads beside them would fight for the same cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.PHONY: help demo test check bench clean

help:
	@echo "make demo   run the whole pipeline on drawn chest films; prints where the report lies"
	@echo "make test   run the tests (CPU, no network, no weights)"
	@echo "make check  format, lint, types and tests: what CI runs"
	@echo "make bench  measure the hot paths against their bounds"
	@echo "make clean  remove the demo's output and caches (not .venv)"

$(STAMP): pyproject.toml arra_med/_version.py
	@echo "Installing into $(VENV): several GB, which takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/arra-med demo

test: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

bench: $(STAMP)
	$(BIN)/python scripts/bench/ingest.py
	$(BIN)/python scripts/bench/features.py
	$(BIN)/python scripts/bench/train.py
	$(BIN)/python scripts/bench/generate.py
	$(BIN)/python scripts/bench/evaluate.py

clean:
	rm -rf work build .pytest_cache .mypy_cache .ruff_cache .hypothesis
