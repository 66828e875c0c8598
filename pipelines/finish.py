"""The end of a run: prints failures and the summary, and chooses the exit code; also checks that Beam is installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from boiler_beam.connectors.billed import Billed
from boiler_beam.errors import UsageError
from pipelines.options import RunOptions

__all__ = ["DONE", "FAILED", "NOT_PRUNED", "STRICT", "finish", "needs_beam"]

DONE, FAILED, NOT_PRUNED, STRICT = 0, 1, 3, 4
"""Exit codes of a run; 2 is wrong use."""


def finish(
    console: Console,
    options: RunOptions,
    started: float,
    *,
    documents: int,
    changes: int,
    rows: int,
    dead_letters: int,
    refusals: Sequence[str],
    failures: Sequence[str] = (),
    billed: Billed,
) -> int:
    """Prints the summary on stdout and failures on stderr; returns the exit code."""
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    for refusal in refusals:
        console.print(f"not pruned: {refusal}; fix: run with --prune all to delete them", soft_wrap=True)
    if billed != Billed():
        print(f"Firestore: {billed}")
    written = " (dry run: nothing was written)" if options.dry_run else ""
    counts = f"{documents:,} documents, {changes:,} changes, {rows:,} rows"
    print(f"{counts}, {dead_letters:,} dead letters, {time.monotonic() - started:.1f} seconds{written}")
    if failures:
        return FAILED
    if refusals:
        return NOT_PRUNED
    return STRICT if options.strict and dead_letters else DONE


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
            f"--runner {runner}: expected Apache Beam to be installed, got none; fix: pip install 'boiler_beam[beam]'"
        ) from None
