# Two commands for a fresh machine with python3 and make: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
# Tests and demos start hundreds of processes, each of which would compile every module.
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=
ifndef SEED
SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
FUZZ_SECONDS ?= 60
TARGET ?= all

.PHONY: demo test test-long fuzz clean

demo: .venv/.demo
	$(BIN)/sokuji demo $(ARGS)

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

# Searches at random with a seed that is printed, and runs what is too long for every change: chaos, soak, fuzzers.
test-long: .venv/.test
	@echo "make test-long SEED=$(SEED)"
	SOKUJI_TEST_LONG=$(SEED) $(BIN)/pytest --hypothesis-seed=$(SEED) --timeout=7200 $(ARGS)

fuzz: .venv/.test
	$(BIN)/python -m tests.fuzz $(TARGET) --seed $(SEED) --seconds $(FUZZ_SECONDS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The data package is installed without its dependencies: only its CSV files are read (docs/how-it-works.md).
.venv/.demo: .venv/bin/python pyproject.toml
	@echo "installing sokuji into .venv (a few minutes the first time) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ml,plot,realtime]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps lifetimes==0.11.3
	@touch $@

.venv/.test: .venv/.demo tests/sdk/install tests/ml/install tests/meta/install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ml,plot,realtime,dev]'
	tests/sdk/install
	tests/ml/install
	tests/meta/install
	@touch $@

clean:
	rm -rf .venv .sokuji-demo build dist
