# Each target builds what it needs in .venv, from a bare Python 3.11, 3.12 or 3.13.
#   make PYTHON=/path/to/python3.12 ...   chooses the Python of a new .venv
#   make test ARGS="-k tape -x"           passes arguments on (test, demo, bench)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench clean

PYTHON ?=
ARGS ?=
WORKERS ?= 2

BIN := .venv/bin
SUITABLE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' Makefile

demo: .venv/.installed-demo  ## train a digit classifier
	@$(BIN)/python -m examples.digits $(ARGS)

test: .venv/.installed-dev  ## run the tests and the examples in docstrings
	@$(BIN)/python -m pytest -q -n $(WORKERS) --doctest-modules tests graphgrad $(ARGS)

lint: .venv/.installed-dev  ## check style, types and layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

bench: .venv/.installed-bench  ## run the benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove .venv, caches and build leftovers
	@rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.installed-%: pyproject.toml | .venv/bin/python
	@echo "Installing graphgrad[$*] into .venv (the first time takes a minute or two)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

.venv/bin/python:
	@found=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$candidate" -c '$(SUITABLE)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "graphgrad needs Python 3.11, 3.12 or 3.13 with its venv module (python3-venv on Debian)." >&2; \
	  echo "Tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)." >&2; \
	  echo "Name another: make PYTHON=/path/to/python3.12 ..." >&2; \
	  exit 1; \
	fi; \
	echo "Creating .venv with $$("$$found" --version)"; \
	"$$found" -m venv --clear .venv
