# make run    start the agent with the shipped catalogue on http://127.0.0.1:22550
# make test   set up everything and run all tests
# make demo   the agent inside the simulated internet, page on http://127.0.0.1:22550
# make bench  the figures that README and docs claim
# make lab    every scenario, thousands of runs on a virtual clock and once for real: docs/matrix.md
# make fuzz   ten million damaged inputs to everything that reads bytes from the network

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test setup setup-dev demo bench lab fuzz lint lock clean pythons

run: setup
	$(BIN)/callpath run $(ARGS)

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	touch $@

setup-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $(VENV)/.installed $@

test: setup-dev
	sh scripts/system-packages container
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "not long"
	$(MAKE) --no-print-directory pythons

# The other supported interpreters of this machine: the program's own tests.
pythons: setup-dev
	sh scripts/other-pythons $(BIN)/python

lint: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: setup-dev
	sh scripts/system-packages
	$(BIN)/python -m tests.lab.demo

bench: setup-dev
	sh scripts/system-packages
	$(BIN)/python -m bench

lab: setup-dev
	sh scripts/system-packages
	$(BIN)/python -m pytest -q -m long
	$(BIN)/python -m tests.lab.matrix $(ARGS)

fuzz: setup-dev
	$(BIN)/python -m tests.fuzz.run --count 10000000 $(ARGS)

# Newest versions that the ranges in pyproject.toml allow.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev]'
	.lock/bin/python -m pip freeze --exclude callpath > requirements.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
