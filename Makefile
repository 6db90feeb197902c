# `make demo` and `make test` do all the set-up: they need only Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
DOCS := $(VENV)/docs-installed

.PHONY: demo test test-all dev check format bench docs clean help
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

demo: $(STAMP)  ## run the quickstart study (about four minutes on two cores) and write its report
	$(BIN)/tapeout run quickstart

test: $(STAMP)  ## all tests but the nightly sweeps, about 10 minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-all: $(STAMP)  ## the nightly sweeps too, and the engine on a Ray of this machine
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[ray,tensorboard]'
	$(BIN)/python -m pytest -n 2

check: dev  ## format, lint, types and the floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(STAMP)  ## speed of the kernels as ratios, measured side by side
	$(BIN)/python -m tapeout.tests.bench

docs: $(DOCS)  ## the documentation, into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

format: $(STAMP)  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dev: $(STAMP)  ## the environment, and the link that only the type checkers read
	@mkdir -p .dev && ln -sfn .. .dev/tapeout

clean:  ## remove everything that can be made again
	rm -rf $(VENV) .dev build *.egg-info

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else f"Python {v.major}.{v.minor} is not one of 3.11, 3.12, 3.13: choose another with make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[posits]' 2>/dev/null \
		|| echo "SoftPosit could not be built (it needs a C compiler): its tests are skipped"
	@touch $(STAMP)

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $(DOCS)
