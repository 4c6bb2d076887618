# Two commands for a fresh machine with python3 and make: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo test clean

demo: .venv/.demo
	$(BIN)/sokuji demo $(ARGS)

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(ARGS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

# The data package is installed without its dependencies: only its CSV files are read (docs/how-it-works.md).
.venv/.demo: .venv/bin/python pyproject.toml
	@echo "installing sokuji into .venv (a few minutes the first time) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ml,plot,realtime]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps lifetimes==0.11.3
	@touch $@

.venv/.test: .venv/.demo tests/sdk/install tests/ml/install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[ml,plot,realtime,dev]'
	tests/sdk/install
	tests/ml/install
	@touch $@

clean:
	rm -rf .venv .sokuji-demo build dist
