# Four commands to know: `make unit`, `make run`, `make demo` and `make test`. Each does all the set-up it needs.

PY := .venv/bin/python
STORE ?= consul
# `su` without a dash leaves root with a user's PATH, on which neither apt's tools nor an engine are
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
# where this is set, every process of the tests would compile all modules anew: seconds for each start of a driver
export PYTHONDONTWRITEBYTECODE :=

# Hundreds of drivers are started by the tests: each would compile the package anew
unexport PYTHONDONTWRITEBYTECODE

# One room of the unit tests: its folder, or its file; without ROOM, all of them and the properties.
ROOM_TESTS = $(wildcard tests/unit/$(ROOM) tests/unit/test_$(ROOM).py tests/property/test_$(ROOM)*.py)
UNIT_TESTS = $(if $(ROOM),$(or $(ROOM_TESTS),tests/unit/$(ROOM)),tests/unit tests/property)

.PHONY: help unit coverage run stop demo test check lint bench plugin deb dist lab format requirements clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

unit: .venv ## unit and property tests, in seconds and without root; ROOM=ipam for those of one room
	@MACVLAN_GLOBAL_TESTS_BRIEF=1 $(PY) -m pytest -q -p tests.side_by_side --processes 5 $(UNIT_TESTS)

coverage: .venv ## the same with line and branch coverage; an error below 85 %, or with a file at 0 %
	@$(PY) -m tests.covered -n 2

run: .venv ## a real engine, the driver and the first example, on a wire of its own
	@$(PY) -m demo run

stop: .venv ## take away all that `make run` made
	@$(PY) -m demo stop

demo: .venv ## two hosts that share a network, and their page, on Consul (STORE=etcd: etcd); STAY=yes waits at the end
	@$(PY) -m demo.two_hosts --store $(STORE) $(if $(STAY),--stay)

test: .venv lab plugin ## everything, for real: engines, kernels, containers
	@$(PY) -m lab.suite

check: lint ## lint, types, import rules, documents
	$(PY) -m pytest -q tests/docs

lint: .venv ## what `make test` does not look at: style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: .venv lab ## ratios against yardsticks, side by side in one run
	@$(PY) -m bench

plugin: .venv ## the managed plugin for Docker's swarm mode, in build/plugin
	@$(PY) -m plugin

deb: .venv ## the package for Debian and Ubuntu, in build/packages
	@$(PY) -m packages deb

dist: .venv ## sdist, wheel and the bill of their materials, in build/packages
	@$(PY) -m packages dist

lab: .venv
	@$(PY) -m lab prepare

format: .venv ## let ruff set the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

requirements: .venv ## pin the dependencies anew, with hashes and without naming an index
	$(PY) -m pip install --quiet pip-tools
	cd $(CURDIR) && for each in requirements requirements-dev; do $(PY) -m piptools compile --quiet --upgrade \
	  --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --output-file=$$each.txt $$each.in; done

clean: ## forget the virtual environment and everything built
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: .venv
.venv:
	@scripts/bootstrap
