# Two commands for a newcomer: `make run` and `make test`. Both need python3 (3.11 or later) with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-all clean

run: $(VENV)/.installed
	$(BIN)/trio-chaos run scenarios/

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal -q -m "not slow"

# the rest as well: real time, other programs, thousands of examples
test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal -q

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trio-chaos needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
