PYTHON ?= python3
BIN = .venv/bin

.PHONY: up test lint chaos bench screenshots clean

up: .venv/up
	$(BIN)/pixel-server up

test: lint
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

chaos: .venv/test
	$(BIN)/python -m tests.chaos.run $(CHAOS)

bench: .venv/up
	$(BIN)/python -m tests.bench.run $(BENCH)

screenshots: .venv/test
	$(BIN)/python -m tests.screenshots $(SCREENSHOTS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/up: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/test: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ .venv/up

clean:
	rm -rf .venv
