# The commands that a person types; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
STAGE := $(PYTHON) scripts/stage.py
ARGS ?=
PORT ?= 8080

.PHONY: help demo meeting beam check check-all deploy-check rehearse soak bench bench-stream bench-firestore bench-serving docs release clean base serve dev

help: ## list these commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 17

demo: serve ## a live page of a meeting room: two windows stay equal (PORT=8080)
	@$(BIN)/python -m pipelines.live --port $(PORT)

meeting: base ## show views of a meeting room, and how their rows follow a change (about ten seconds)
	@$(BIN)/python -m pipelines.demo
	@echo
	@echo "Next: your first view, docs/first_view.md. Or make beam: the same rows on Apache Beam (installs it: minutes, 800 MB)."

beam: base ## compute the same rows on Apache Beam; installs it the first time (minutes, 800 MB)
	@$(STAGE) beam
	@$(STAGE) quiet demo.log $(BIN)/python -m pipelines.demo --runner DirectRunner

check: dev ## what a contributor runs: format, lint, types, tests, README, wheel
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/check.sh

check-all: dev ## the rest: more examples for every property, slow tests, other Pythons, docs, the worker's sdist
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/check_all.sh

deploy-check: dev ## what would be deployed to Dataflow, without a cloud: job graphs, templates, launcher, requests, Terraform
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/deploy_check.sh

rehearse: dev ## a whole deployment on this machine: relay, stream, scheduled backfill, update; needs gcloud, Java, and prism or Go
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m dataflow.rehearsal $(ARGS)

soak: dev ## random histories through every executor with fresh seeds (ARGS="--seconds 3600"); what fails is saved as a test
	@$(BIN)/python scripts/soak.py $(ARGS)

bench: ## measure the backfill beside other tools (ARGS="--size large --runs 1")
	@$(PYTHON) -m benchmarks.run $(ARGS)

bench-stream: ## measure streams of changes (ARGS="--size huge --runs 1" for the memory of 2,000,000 documents)
	@$(PYTHON) -m benchmarks.stream $(ARGS)

bench-firestore: dev ## measure reads, writes, a stream and its latency on Firestore's emulator (ARGS="--only latency")
	@$(BIN)/python -m benchmarks.firestore $(ARGS)

bench-serving: dev ## measure the server: subscribers, reconnections, reads, writes (ARGS="--only write --runs 1")
	@$(BIN)/python -m benchmarks.serving $(ARGS)

docs: dev ## build the documentation into build/docs
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs && echo "build/docs/index.html"

release: dev ## version, changelog, sdist and wheel, checked; neither pushes nor uploads (ARGS="--version 0.2.0 --dry_run")
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/release.py $(ARGS)

clean: ## remove what was made
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

base serve dev:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON): expected Python 3.10 to 3.13, got none; fix: install it, or make PYTHON=... $(MAKECMDGOALS)" >&2; exit 2; }
	@$(STAGE) $(if $(filter base serve,$@),$@,base $@)
