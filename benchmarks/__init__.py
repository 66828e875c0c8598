"""The comparison that `make bench` runs: a workload, its expected rows, other tools, and the measurement."""
