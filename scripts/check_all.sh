#!/bin/sh
# What `make check-all` runs beyond `make check`, in the development environment.
. scripts/step.sh
HYPOTHESIS_PROFILE=thorough step "properties, thorough" python -m pytest -q -n 2 --no-header tests/semantics
HYPOTHESIS_PROFILE=thorough step "other properties, thorough" python -m pytest -q -n 2 -m "hypothesis and not slow" --no-header tests --ignore=tests/semantics
step "slow tests" python -m pytest -q -n 2 -m slow --no-header
step "docs" sphinx-build -q -W --keep-going -b html docs build/docs
step "other Pythons" python scripts/check_pythons.py
