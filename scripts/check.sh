#!/bin/sh
# What `make check` runs, in the development environment. The wheel is built and installed beside the rest, because it mostly
# waits for pip. Collecting compiles the tests once, beside mypy: else each of pytest's workers would compile all of them.
# Three workers keep two cores busy while some tests wait; each further one would import all tests again (13 s of CPU).
. scripts/step.sh
step "format" ruff format --check .
step "lint" ruff check .
later "wheel" python scripts/check_wheel.py
later "collect" python -m pytest -q -m "not slow" --no-header --collect-only
step "types" mypy
await "collect"
step "tests" python -m pytest -q -n 3 --dist worksteal -m "not slow" --no-header
await "wheel"
