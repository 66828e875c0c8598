"""Tests: the tree mirrors the packages; `semantics` compares the executors with the oracle."""
