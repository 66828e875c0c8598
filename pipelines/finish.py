"""The end of a run: prints failures and the summary, and chooses the exit code; also checks that Beam is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from boiler_beam.connectors.billed import Billed
from boiler_beam.errors import UsageError
from boiler_beam.install import install_command
from boiler_beam.program import Report, StreamReport

__all__ = ["DONE", "FAILED", "NOT_PRUNED", "STRICT", "finish", "needs_beam"]

DONE, FAILED, NOT_PRUNED, STRICT = 0, 1, 3, 4
"""Exit codes of a run; 2 is wrong use."""


def finish(
    console: Console,
    report: Report | StreamReport,
    not_pruned: Sequence[str],
    failures: Sequence[str],
    *,
    is_strict: bool,
) -> int:
    """Prints the summary on stdout and failures on stderr; returns the exit code."""
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    for refusal in not_pruned:
        console.print(f"not pruned: {refusal}; fix: run with --prune all to delete them", soft_wrap=True)
    if report.billed != Billed():
        print(f"Firestore: {report.billed}")
    print(report)
    if failures:
        return FAILED
    if not_pruned:
        return NOT_PRUNED
    return STRICT if is_strict and report.dead_letters else DONE


@contextmanager
def needs_beam(runner: str | None) -> Iterator[None]:
    """Reports a missing Beam within the context, where Beam is imported.

    Raises:
        UsageError: Beam is not installed.
    """
    try:
        yield
    except ImportError as error:
        if not (error.name or "").startswith("apache_beam"):
            raise
        raise UsageError(
            f"--runner {runner}: expected Apache Beam to be installed, got none; fix: {install_command('beam')}"
        ) from None
