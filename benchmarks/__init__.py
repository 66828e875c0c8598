"""The comparison that `make bench` runs: a workload, its expected rows, peers, and what measures them all."""
