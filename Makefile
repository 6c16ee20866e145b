# Each target is the only command needed on a fresh clone: what it needs is set up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
INPUTS := pyproject.toml constraints.txt

PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: help demo test test-all test-gpu lint fuzz fuzz-mutations bench hosts docs docs-site docs-serve docs-pages clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/demo.done  ## train a network on real images, swap its gates, show what happened
	$(BIN)/modswap demo

test: $(VENV)/dev.done  ## run the quick tests, in at most 5 minutes on 2 cores
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(VENV)/hosts.done  ## run all tests with all hosts, then fuzz for MINUTES=5; keep a summary
	$(PYTEST) -m '' --hypothesis-profile=thorough --summary=benchmarks/results/test-all.txt $(PYTEST_ARGS)
	@# apart: it takes as long again, and Python 3.11 may fail to trace a thread that starts in a test
	$(PYTEST) -m 'not slow or ci' --hypothesis-profile=ci --cov --cov-report=
	$(BIN)/coverage report --fail-under=95
	$(BIN)/python -m tests.io.fuzz.mutations --minutes $(or $(MINUTES),5)

test-gpu: $(VENV)/dev.done  ## run what needs a GPU; elsewhere it is skipped, with the reason
	$(BIN)/python -m pytest -n 0 -m '' tests/gpu $(PYTEST_ARGS)

lint: $(VENV)/dev.done  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/fuzz.done  ## search for inputs that trip a reader, guided by coverage, for MINUTES=10
	$(BIN)/python -m tests.io.fuzz.guided --minutes $(or $(MINUTES),10) $(FUZZ_ARGS)

fuzz-mutations: $(VENV)/dev.done  ## change sound files at random for MINUTES=5, keep those that trip a command
	$(BIN)/python -m tests.io.fuzz.mutations --minutes $(or $(MINUTES),5)

bench: $(VENV)/dev.done  ## time the main job
	$(BIN)/python benchmarks/replace.py

hosts: $(VENV)/hosts.done  ## add the libraries whose models tests/hosts swaps

docs: docs-pages  ## write the pages that the program makes, then build the site into build/site
	$(MAKE) --no-print-directory docs-site

docs-site: $(VENV)/docs.done  ## build the site alone; a dead link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: $(VENV)/docs.done  ## show the site at http://127.0.0.1:8000, and follow changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

docs-pages: $(VENV)/dev.done  ## write the pages that are made from the tables of the program
	$(BIN)/python -m tests.core.asked.recipe_page
	$(BIN)/python -m tests.ops.examine.verification_page
	$(BIN)/python -m tests.ops.code.code_page
	$(BIN)/python -m tests.cli.tree_page
	$(BIN)/python -m tests.cli.diff_page
	$(BIN)/python -m tests.cli.terminal_picture
	$(BIN)/python -m tests.ops.explain.explain_page
	$(BIN)/python -m tests.docs.module_pictures
	$(BIN)/python -m tests.docs.tutorial_page
	$(BIN)/modswap catalogue --format markdown > docs/catalogue.md

clean:  ## remove what the targets made
	rm -rf $(VENV) modswap-demo dist build .mypy_cache .ruff_cache .pytest_cache .coverage

$(VENV)/made.done: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit("modswap needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	@# torch first and by its exact version: a plain range would fetch its CUDA packages
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/demo.done: $(VENV)/made.done
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/dev.done: $(VENV)/made.done
	$(PIP) --editable '.[dev,demo]'
	@touch $@

$(VENV)/hosts.done: $(VENV)/dev.done
	@# the build of torchvision that PyPI has needs CUDA; its requirements are left out
	$(PIP) --no-deps 'torchvision==0.28.0'
	$(PIP) --editable '.[hosts]'
	@touch $@

$(VENV)/docs.done: $(VENV)/made.done
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/fuzz.done: $(VENV)/dev.done
	$(PIP) --editable '.[fuzz]'
	@touch $@
