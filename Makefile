# clipsearch: every command sets up what it needs, in a virtual environment in .venv.

PYTHON ?= python3
BIN := .venv/bin
# Slow tests with a browser, or with a cluster of processes, which run by themselves.
ALONE := tests/page tests/indexer/test_executors.py
PHOTOS ?=
QUERY ?=

.PHONY: demo test test-all test-cluster test-postgres check docs-check bench clean

demo: .venv/demo.stamp
	$(BIN)/python tools/demo.py --photos "$(PHOTOS)" --query "$(QUERY)" --work build/demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not on_postgres" $(addprefix --ignore=,$(ALONE))
	$(BIN)/python -m pytest -q -m "slow and not on_postgres" $(ALONE)

test-postgres: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m on_postgres tests/store

# The server is a package of 56 MB for Linux alone; its tests are skipped where it cannot be installed.
test-cluster: .venv/dev.stamp
	$(BIN)/python -c 'import milvus' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps milvus==2.3.5 || \
		echo "The Milvus server could not be installed: its tests are skipped." >&2
	$(BIN)/python -m pytest -q -m cluster tests/ann

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs-check: .venv/dev.stamp
	$(BIN)/python -m pytest -q tests/project/test_docs.py

bench: .venv/dev.stamp
	$(BIN)/python benchmarks/run.py

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "clipsearch needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo.stamp .venv/dev.stamp: .venv/%.stamp: pyproject.toml | .venv/pyvenv.cfg
	@echo "Installing clipsearch into .venv (the first time several GB, most of it torch; a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

clean:
	rm -rf .venv build
