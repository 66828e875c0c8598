#!/bin/sh
# What `make check` runs, in the development environment.
. scripts/step.sh
step "format" ruff format --check .
step "lint" ruff check .
step "types" mypy
step "tests" python -m pytest -q -n 4 --dist worksteal -m "not slow" --no-header
step "wheel" python scripts/check_wheel.py
