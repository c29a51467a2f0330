# Every verb sets up what it needs; `make` alone lists them. On the machine: make, and Python 3.11 to 3.14 with venv.
.DEFAULT_GOAL := help
.PHONY: help install run test check bench image image-test lock clean

FITS   = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
            "$$p" -c '$(FITS)' 2>/dev/null && command -v "$$p" && break; done)
BIN    := .venv/bin

# What is compiled is kept: a gateway starts in half the time, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s%s\n", $$1, $$2}' Makefile

install: $(BIN)/gateway  ## make .venv: the locked dependencies, the gateway command
	@:

run: install  ## the gateway on 127.0.0.1:8000; with no route set, the demo
	@env | grep -qE '^GATEWAY_(UPSTREAM|ROUTE|URLCONF)' || exec $(BIN)/python -m demo; \
	problems=$$($(BIN)/gateway check 2>&1) || { printf '%s\n%s\n' "$$problems" \
	  'make run: nothing was started: the GATEWAY_* variables of this shell have the problems above (without any, the demo starts)' >&2; exit 2; }; \
	exec $(BIN)/gateway serve

test: install  ## every test
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: install  ## format, lint, types
	@$(BIN)/ruff format --check --quiet . || { echo 'to format: $(BIN)/ruff format .'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

bench: install  ## the benchmark, one markdown table
	@$(BIN)/python -m bench

image:  ## the container image, by podman or docker
	@deploy/image.sh

image-test:  ## the same, proven by running it
	@$(PYTHON) deploy/image_test.py

lock: install  ## remake the lock files; UPGRADE=--upgrade takes what is newest
	@$(LOCK) --group build pyproject.toml --output-file requirements.lock
	@$(LOCK) --group dev --constraints requirements.lock pyproject.toml --output-file requirements-dev.lock

clean:  ## forget .venv and every cache
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

LOCK = $(BIN)/uv pip compile --quiet $(UPGRADE) --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
         --annotation-style line --custom-compile-command 'make lock'

# Twice two steps, so that only a changed lock downloads, and a changed pyproject.toml costs a second.
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

$(BIN)/gateway: .venv/.locked pyproject.toml
	@$(PIP) install --no-index --no-build-isolation --no-deps --editable .
	@touch $@

.venv/.locked: requirements-dev.lock
	@test -n "$(PYTHON)" || { echo 'make: no Python 3.11 to 3.14 found; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@$(PYTHON) -c '$(FITS)' 2>/dev/null || { echo 'make: $(PYTHON) is no Python from 3.11 to 3.14'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'make: $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@echo 'Making .venv with $(PYTHON): half a minute, once.'
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@touch $@
