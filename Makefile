# Needs python3 (3.11 or newer) and nothing else. Every target brings the virtual environment up to date first; when
# that is so already, it costs nothing.

VENV   ?= .venv
PYTHON ?= python3
JOBS   ?= 8
STORE  ?= sqlite
ARGS   ?=

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
RUN  := $(VENV)/.installed-run
DEV  := $(VENV)/.installed-dev
POOLER := $(VENV)/.installed-pgbouncer
DEBIAN := $(VENV)/.fetched-programs
COMPILED := tests/__pycache__

PYTEST := $(BIN)/python -m pytest --dist worksteal
# tests/circles.py fails a test that takes longer than four minutes. Code in C can hold that up; then the process ends.
LIMITED := $(PYTEST) -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

.DEFAULT_GOAL := help
.PHONY: help demo quick test proof lint types format bench load docs clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(RUN) ## some two hundred commands through a queue of their own
	$(BIN)/queuectl demo

quick: $(DEV) | $(COMPILED) ## tests of a minute: rules, command line, stores without a server
	$(LIMITED) -n 3 --circle quick $(ARGS)

test: $(DEV) $(POOLER) | $(COMPILED) ## tests of five minutes: every store, every guarantee (KIND=redis for the end-to-end tests)
	$(LIMITED) -n $(JOBS) --circle test $(ARGS)

proof: $(DEV) $(POOLER) $(DEBIAN) | $(COMPILED) ## every test: elections, races, kills under load (ARGS="-k name" for a part, here as above)
	$(PYTEST) -n $(JOBS) --circle proof $(ARGS)

lint: $(DEV) ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV) ## put the formatting right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV) ## type check
	$(BIN)/mypy
	MYPYPATH=src $(BIN)/mypy docs/generate.py

bench: $(DEV) ## measure, beside what the machine can do (ARGS=row for one)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

load: $(DEV) ## 10,000 commands through real processes (STORE=redis, archived, postgres, mongodb)
	PYTHONPATH=tests $(BIN)/python -m bench.load $(STORE) $(ARGS)

docs: $(DEV) ## rewrite the generated parts of the documentation
	$(BIN)/python docs/generate.py

clean: ## remove what make made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The package is installed editable, so that a target always runs the source as it is. What builds it is installed first
# and used in place: an isolated build would fetch its own, at whatever version is newest.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable .
	touch $@

$(DEV): $(RUN)
	$(PIP) --no-build-isolation --editable '.[dev]'
	touch $@

$(POOLER): | $(BIN)/python
	sh tests/servers/install-pgbouncer
	touch $@

$(DEBIAN): | $(BIN)/python
	sh tests/servers/fetch-programs $(VENV)/debian
	touch $@

# In a fresh clone two processes compile the tests, one half each; else each process of the test run compiles all of them.
$(COMPILED): | $(DEV)
	$(PYTEST) --collect-only -qq tests/contract tests/e2e > /dev/null & \
	$(PYTEST) --collect-only -qq --ignore=tests/contract --ignore=tests/e2e > /dev/null; wait

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "queuectl needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
