#!/bin/sh
# What `make deploy-check` runs, in the development environment.
. scripts/step.sh
step "what is deployed" python -m dataflow.graph
step "templates, jobs, Terraform" python -m pytest -q -n 2 --no-header tests/dataflow
