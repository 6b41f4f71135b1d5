# Every target sets up what it needs; a second run takes seconds. Only Python 3.11+ and make are required.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --require-virtualenv

# The first of these that runs and is new enough; `make PYTHON=/path/to/python3.13 …` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

# Most tests wait for a Kafka: two beside each other leave 60 % of two cores idle, so three run at a time, each with
# brokers of its own. A torture wants the machine.
BESIDE := --numprocesses 3 --dist worksteal

.PHONY: help up test test-fast torture lint format bench docs-check clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/.run ## Start everything: Kafka on 9092, gateway on 5000, worker. Ctrl-C stops it.
	@$(BIN)/recado up

test: $(VENV)/.dev ## Run every test, on Kafka 4.3.1 and on 3.9.1 (about a quarter of an hour).
	$(BIN)/python -m pytest $(BESIDE) --ignore tests/torture
	$(BIN)/python -m pytest tests/torture
	RECADO_KAFKA_VERSION=3.9.1 $(BIN)/python -m pytest $(BESIDE) tests/contract/test_[cp]*.py tests/integration

test-fast: $(VENV)/.dev ## Run the tests that need no Kafka (one or two minutes).
	$(BIN)/python -m pytest $(BESIDE) tests/unit

torture: $(VENV)/.dev ## Faults under load for an hour, on three brokers.
	$(BIN)/recado torture gateway --minutes 30 --brokers 3 --gateways 2
	$(BIN)/recado torture worker --minutes 15 --brokers 3 --protocol classic
	$(BIN)/recado torture worker --minutes 15 --brokers 3 --protocol consumer

lint: $(VENV)/.dev ## Check style, types and the laws of the rooms.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## Format the code.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## Measure against others, as ratios within one run (about ten minutes).
	$(BIN)/python -m benchmarks $(VENV)/others/bin/python

clean: ## Remove the virtual environment and caches (not Kafka's data in .recado).
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "recado needs Python 3.11 or later: install it, or run: make PYTHON=/path/to/python3.12 up"; exit 1; }
	@echo "Making a virtual environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python cannot make virtual environments here. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

define install
	@echo "Installing what $(1) locks (the first time takes a minute)"
	@$(PIP) install --require-hashes -r $(1) || { echo; echo "The packages could not be installed. Is the network there? Run the same command again: it goes on where it stopped."; exit 1; }
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.run: $(VENV)/bin/python requirements/run.txt pyproject.toml
	$(call install,requirements/run.txt)

$(VENV)/.dev: $(VENV)/bin/python requirements/dev.txt pyproject.toml
	$(call install,requirements/dev.txt)
	@touch $(VENV)/.run

# What is compared with lives in an environment of its own: Quix Streams needs an older confluent-kafka.
$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@$(PYTHON) -m venv $(VENV)/others
	@$(VENV)/others/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/bench.txt
	@touch $@
