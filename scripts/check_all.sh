#!/bin/sh
# What `make check-all` runs beyond `make check`, in the development environment.
. scripts/step.sh
# In one run, because each imports all tests and ends with a worker that waits for the other. Tests that
# `make check` runs are left out, unless they do more here.
later "docs" sphinx-build -q -W --keep-going -b html docs build/docs
HYPOTHESIS_PROFILE=thorough step "thorough and slow tests" \
    python -m pytest -q -n 3 --dist worksteal -m "hypothesis or thorough or slow" --no-header
await "docs"
step "other Pythons" python scripts/check_pythons.py
