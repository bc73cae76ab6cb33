PYTHON ?= python3
BIN = .venv/bin

# Tests that start servers or browsers, or that try many examples. `make quick` leaves them out.
WHOLE = journeys chaos properties old_data run demo deploy \
	api/test_openapi.py campaigns/test_retention.py collect/test_script.py commands/test_networks.py \
	commands/test_retention.py dashboard/test_live.py figures/test_overview.py \
	recipients/test_withdrawn_set.py relay/test_killed.py relay/test_postfix.py relay/test_thunderbird.py \
	store/test_aof_rewrite.py

# Tests that also run on a cluster of one node.
ON_CLUSTER = api/test_health.py figures/test_overview.py figures/test_stats_opens.py store/test_checkpoint.py \
	store/test_compatibility.py store/test_keys.py store/test_producer.py store/test_raw_replies.py \
	store/test_script.py workers/test_maintenance.py workers/test_rollup.py workers/test_rollup_pass.py \
	workers/test_schedule.py

# Test processes: one more than cores, because many tests wait for servers, and at most 4.
TEST_PROCESSES ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() + 1))')

.PHONY: up test quick lint chaos bench screenshots clean

up: .venv/up
	$(BIN)/pixel-server up

test: lint
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal --store cluster $(ON_CLUSTER:%=tests/%)

quick: .venv/test
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal $(WHOLE:%=--ignore=tests/%)

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
	@echo "Installing into .venv: about a minute, longer over a slow network. Later starts skip this."
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/test: .venv/bin/python pyproject.toml
	@echo "Installing into .venv, with the tools of the tests: one to three minutes."
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ .venv/up

clean:
	rm -rf .venv
