# Every task of the project, for people and for CI alike. Needs Python 3.11 or newer with venv, git and make.
.DEFAULT_GOAL := help
.PHONY: help install up test test-quick coverage check bench soak docs lock testbed testbed-down clean
PYTHON ?= python3
BIN := .venv/bin
# More words for pytest: make test ARGS="-k deploy --durations=10"
ARGS ?=
# Tests run side by side: what waits for containers beside what computes. Tests of one file stay together.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope
SYSTEM_PARTS := docker or postgres or browser or proxies or registry or kubernetes or root or soak
# Tests start hundreds of short-lived processes: what each of them would compile again costs minutes.
unexport PYTHONDONTWRITEBYTECODE
TYPED := src/towline tests benchmarks scripts
COVERAGE := -p tests.coverage.plugin

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install: ## make or renew .venv from the pinned requirement files
	@PYTHON=$(PYTHON) scripts/bootstrap.sh dev

up: ## start a control plane and an agent on this machine, on embedded defaults
	@PYTHON=$(PYTHON) scripts/bootstrap.sh server
	@$(BIN)/towline up

testbed: install ## bring up the real parts that tests need; as root it installs them first
	@$(BIN)/python -m tests.testbed up

testbed-down: ## end what the test bed started
	@$(BIN)/python -m tests.testbed down

test: testbed ## run every test on every real part that can be had here
	@$(PYTEST) $(ARGS)

test-quick: install ## run the tests that need no system parts
	@$(PYTEST) -m "not ($(SYSTEM_PARTS))" tests/unit tests/integration $(ARGS)

coverage: ## run every test, and say which lines of the agent they run
	@$(MAKE) test ARGS="$(COVERAGE) $(ARGS)"

check: install ## lint, format, types, import contracts, documentation against code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports
	@$(BIN)/python -m scripts.check_docs
	@$(BIN)/python -m scripts.make_reference --check

bench: testbed ## measure; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

soak: testbed ## run the long proofs: kills, cuts, idle hours, fuzzing
	@$(BIN)/python -m pytest -m soak --timeout=0 -o faulthandler_timeout=0 $(ARGS)

docs: install ## write docs/reference anew from the code
	@$(BIN)/python -m scripts.make_reference

lock: install ## pin the requirements anew: make lock ARGS=--upgrade
	@scripts/lock.sh $(ARGS)

clean: ## delete what was built here, the virtual environment included
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
