# Needs python3 (3.11 or newer) and make. Everything else is installed into .venv, once per change of pyproject.toml.

VENV   := .venv
PYTHON := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

# TensorFlow is imported in each process, so there are few of them; a file's tests stay together
PYTEST := $(PYTHON) -m pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: help demo test test-all bench lint docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      fit a line to real data and write what the compiler made of it"
	@echo "make test      the tests, without the slow ones; make test-all runs every one"
	@echo "make lint      ruff and mypy"
	@echo "make bench     the benchmarks, as Markdown tables"
	@echo "make docs      the documentation as HTML, in build/docs"
	@echo "make clean     remove .venv and everything generated"

demo: $(STAMP)-test
	$(PYTHON) examples/linear_regression.py $(ARGS)

test: $(STAMP)-test
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(STAMP)-test
	$(PYTEST) $(ARGS)

lint: $(STAMP)-test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check --quiet .
	$(PYTHON) -m mypy

bench: $(STAMP)-bench
	$(PYTHON) -m benchmarks $(ARGS)

docs: $(STAMP)-docs
	$(PYTHON) -m mkdocs build --strict

# One stamp per extra. uv is used where it is installed, because it is quicker; pip does the same.
$(STAMP)-%: pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sym2tf needs Python 3.11 or newer")'
	@if command -v uv >/dev/null 2>&1; then \
	    test -x $(PYTHON) || uv venv --quiet --python python3 $(VENV); \
	    uv pip install --quiet --python $(PYTHON) --editable ".[$*]"; \
	else \
	    test -x $(PYTHON) || python3 -m venv $(VENV); \
	    $(PYTHON) -m pip install --quiet --disable-pip-version-check --editable ".[$*]"; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) build dist output .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
