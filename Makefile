# make demo: the environment, then an image that sounds. make test: the environment, then the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check types clean

demo: $(READY)
	$(BIN)/its predict --config configs/castle_bell.yaml

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY) types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# An editable install maps plugins/ to its_plugins in a way that mypy can't follow: show it a link.
types: $(READY)
	mkdir -p build/types
	ln -sfn ../../plugins build/types/its_plugins
	$(BIN)/mypy

# Made anew whenever the dependencies change.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
