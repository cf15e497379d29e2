# make search    set up everything, run the quick-start search, show its results
# make test      set up everything, run the tests
#
# The set-up (a virtual environment in .venv, MNIST in data/) happens once; another Python: make PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
LOGS ?= logs

.PHONY: search test check bench clean help

help:
	@sed -n 's/^# make/make/p' Makefile

search: .venv/installed data/fetched
	$(BIN)/python master.py quickstart --logs $(LOGS)
	$(BIN)/python -m foldertune report --logs $(LOGS)

test: .venv/installed-dev data/fetched
	$(BIN)/python -m pytest -n 4   # they mostly wait for one another

# make check     only the linter and the type checker
check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# make bench     the cost of coordination (compared with Optuna, two minutes) and of reading; trials per hour (50 minutes)
bench: .venv/installed-dev data/fetched
	$(BIN)/python -m bench.coordination
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.reading
	$(BIN)/python -m bench.training

# make clean     remove the virtual environment and the data set, keep results
clean:
	rm -rf .venv data

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is too old: Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

data/fetched: | .venv/installed
	$(BIN)/python -m training.data
	@mkdir -p data && touch $@
