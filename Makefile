# SPDX-License-Identifier: GPL-3.0-or-later
# Two commands do all their own set-up: `make demo` and `make test`. The others are their parts.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
PYTHON := .venv/bin/python

.PHONY: help demo test lint unit sanity integration azure molecule bench bench-logging lab-up lab-down lab-status lab-shell clean
.PHONY: ready-for-tests

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The main job: lab, deployment, data, backup, drill, evidence
	@lab/demo.sh

test: ready-for-tests ## Everything below, timed
	@tests/tools/run_all.sh

lint: ready-for-tests ## Formatting, types, YAML, roles, scripts, changelog
	@tests/tools/lint.sh

unit: ready-for-tests ## Pure logic of the engine and the backend
	@$(PYTHON) -m pytest -n 2 --dist loadfile tests/unit backend/tests $(ARGS)

sanity: ready-for-tests ## ansible-test sanity on a copy of the collection
	@tests/tools/sanity.sh

integration: ready-for-tests ## The engine against real PostgreSQL on each supported Debian
	@tests/tools/integration.sh $(ARGS)

azure: ready-for-tests ## The store of type azure against Azurite
	@tests/tools/azure.sh $(ARGS)

molecule: ready-for-tests ## One scenario on hosts of its own: SCENARIO=lab
	@tests/tools/molecule.sh "$(SCENARIO)" $(ARGS)

bench: ready-for-tests ## Backup and drill beside pg_dump and pg_restore: SCALE=1 (GB)
	@tests/bench/run.sh

bench-logging: ready-for-tests ## The backend's log: a line beside other loggers, payments with and without
	@tests/bench/logging.sh $(ARGS)

lab-up: ## Bring up the lab (LAB_DEBIAN=12 for the older release)
	@lab/up.sh

lab-down: ## Remove the lab's hosts and network; images and keys stay
	@lab/down.sh

lab-status: ## How the lab's hosts are
	@lab/lab-status

lab-shell: ## A shell on a host: HOST=db1
	@lab/lab-shell "$(HOST)"

clean: ## Remove every container, network, image, virtual environment and file that was made here
	@lab/clean.sh

ready-for-tests:
	@lab/bootstrap.sh test
