"""Tests; the tree mirrors the packages, `semantics` holds the rules."""
