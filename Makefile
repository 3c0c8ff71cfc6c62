# Needs make, a POSIX sh and Python 3.11 or newer; everything else is put into .venv by tools/environment.py, once.
#
#   make demo     a small model is fine-tuned, exported and run before your eyes
#   make test     the tests                        make test-slow   those that take long
#   make check    format, lint, types, layers, translations, generated pages
#   make format   writes the format                make docs        writes docs/*/commands.md and recipe.md from the code
#   make bench    measures; see bench/             make lock        writes requirements/*.txt anew
#   make setup    only .venv                       make clean       takes away .venv, caches and runs/demo

# The first of these that is new enough. `make demo PYTHON=/path/to/python3.12` names another.
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)

VENV := .venv
BIN := $(VENV)/bin
TESTS := tests
LOCK_OPTIONS :=

.PHONY: help demo test test-slow check format docs bench lock setup setup-dev clean python
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

python:
	@test -n "$(PYTHON)" || { echo "error: afina needs Python 3.11 or newer, and none of python3, python3.11 … python3.14 is; install one, or name it: make demo PYTHON=/path/to/python3" >&2; exit 4; }

setup: python
	@"$(PYTHON)" tools/environment.py base --venv $(VENV)

setup-dev: python
	@"$(PYTHON)" tools/environment.py dev --venv $(VENV)

demo: setup
	@$(BIN)/afina demo

test: setup-dev
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(TESTS)

test-slow: setup-dev
	@$(BIN)/python -m pytest -m slow $(TESTS)

check: setup-dev
	@mkdir -p .cache
	@echo "format";       $(BIN)/ruff format --check --output-format concise . >.cache/format.txt 2>&1 || { cat .cache/format.txt; echo "mend with: make format"; exit 1; }
	@echo "lint";         $(BIN)/ruff check --quiet .
	@echo "types";        $(BIN)/mypy --no-error-summary
	@echo "layers";       $(BIN)/lint-imports --no-logo >.cache/layers.txt 2>&1 || { cat .cache/layers.txt; exit 1; }
	@echo "translations"; $(BIN)/python -m tools.translations
	@echo "pages";        $(BIN)/python -m tools.docs --check
	@echo "all checks passed"

format: setup-dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: setup-dev
	@$(BIN)/python -m tools.docs

bench: setup-dev
	@for script in bench/*.py; do \
		test -f "$$script" || { echo "there is nothing in bench/ yet"; exit 1; }; \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

COMPILE = .cache/lock/bin/uv pip compile --quiet --no-config --no-header --universal --python-version 3.11 --generate-hashes \
	--excludes requirements/excluded.txt $(LOCK_OPTIONS)

lock: python
	@test -x .cache/lock/bin/uv || { "$(PYTHON)" -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv; }
	@$(COMPILE) pyproject.toml requirements/torch-needs.in -o requirements/base.txt
	@$(COMPILE) --extra dev -c requirements/base.txt pyproject.toml requirements/torch-needs.in -o requirements/dev.txt
	@if grep -nE '://|file:|@ |^-' requirements/base.txt requirements/dev.txt; then echo "error: an address stands in a lock" >&2; exit 1; fi
	@wc -l requirements/base.txt requirements/dev.txt

clean:
	rm -rf $(VENV) .cache build src/*.egg-info runs/demo
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
