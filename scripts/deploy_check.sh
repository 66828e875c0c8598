#!/bin/sh
# What `make deploy-check` runs, in the development environment. Programs that it can do without are named once, before it begins.
. scripts/step.sh
left_out=""
without() {
    command -v "$1" >/dev/null 2>&1 || left_out="${left_out:+$left_out; }$1 ($2)"
}
without gcloud "its flags, the spec that it builds, and with Java the relay and a template against emulators"
without java "the relay and a template against emulators"
without terraform "the format of its files"
without systemd-analyze "the units of a schedule"
[ -z "$left_out" ] || echo "not installed, so not checked: $left_out"
step "what is deployed" python -m dataflow.graph
step "templates, jobs, Terraform" python -m pytest -q -n 2 --no-header tests/dataflow
