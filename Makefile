# Loomline. Bare `make` lists what there is; PYTHON=… chooses the interpreter.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first interpreter that is new enough and not too new.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3; do \
	if $$each -c '$(FITS)' >/dev/null 2>&1; then echo $$each; break; fi; done)

# Disables usage telemetry of dbt, Dagster and SQLMesh.
export DBT_SEND_ANONYMOUS_USAGE_STATS ?= false
export DAGSTER_DISABLE_TELEMETRY ?= yes
export SQLMESH__DISABLE_ANONYMIZED_ANALYTICS ?= true

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile

.PHONY: env
env: $(INSTALLED) ## install what requirements.lock names into .venv (uv or pip)

$(INSTALLED): requirements.lock pyproject.toml
	@if ! "$(PYTHON)" -c '$(FITS)' >/dev/null 2>&1; then \
		echo "Loomline runs on Python 3.11 to 3.13; $(or $(PYTHON),python3) is" \
			"$$($(or $(PYTHON),python3) --version 2>&1 || true)." >&2; \
		echo "Install one of them, or name it: make env PYTHON=/path/to/python3.13" >&2; \
		exit 1; \
	fi
	@rm -f $@
	@echo "Installing into $(VENV); the first time takes a minute or two."
	@set -e; if uv --version >/dev/null 2>&1; then \
		$(BIN)/python -c '$(FITS)' >/dev/null 2>&1 \
			|| uv venv --quiet --clear --python "$(PYTHON)" $(VENV); \
		export VIRTUAL_ENV="$(CURDIR)/$(VENV)"; \
		uv pip sync --quiet --require-hashes requirements.lock; \
		uv pip install --quiet --no-deps --no-build-isolation --editable .; \
	else \
		$(BIN)/python -m pip --version >/dev/null 2>&1 \
			&& $(BIN)/python -c '$(FITS)' \
			|| "$(PYTHON)" -m venv --clear $(VENV); \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--no-deps --require-hashes --requirement requirements.lock; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--no-deps --no-build-isolation --editable .; \
	fi
	@touch $@

.PHONY: demo
demo: env ## events through to audiences at a local webhook, in data/demo
	$(BIN)/loomline demo

.PHONY: dev
dev: env ## Dagster's web interface and a sandbox that plays the destinations
	$(BIN)/loomline dev

.PHONY: test
test: env ## every test that needs nothing but Python
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

# Measuring every command that the tests start takes them 1.7 times as long.
.PHONY: coverage
coverage: PYTEST = --cov --cov-report=term
coverage: test ## the same tests, their branch coverage, and its floor

# Two processes: SQLFluff takes as long as everything else.
.PHONY: lint lint-python lint-models
lint: env ## style and types of the Python and of the SQL
	@$(MAKE) --no-print-directory -j2 lint-python lint-models

lint-python:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell *.md *.toml *.yml benchmarks connectors docs macros models \
		orchestration seeds tests

lint-models:
	$(BIN)/python .ci/lint_models.py

PORT ?= 8000

.PHONY: docs
docs: env ## the documentation, tables and lineage as a site on 127.0.0.1
	$(BIN)/python docs/site/build.py --serve --port $(PORT)

.PHONY: bench
bench: env ## how fast it is, measured here
	$(BIN)/python -m benchmarks

.PHONY: clean
clean: ## remove what can be made again; data/ stays
	rm -rf $(VENV) target logs .mypy_cache .pytest_cache .ruff_cache .hypothesis
