"""How rows are written to Firestore; needs no client library to be imported."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RETENTION_SECONDS", "Limits", "WriteOptions"]

RETENTION_SECONDS = 10 * 86_400.0
"""How long a tombstone stays: longer than anything older can come back (S3)."""


@dataclass(frozen=True)
class Limits:
    """Of a writer.

    Attributes:
        writes: The most writes in a call.
        size_bytes: The most bytes in a call. Firestore's limit is 10 MiB.
        calls: The most calls in flight.
        call_seconds: How long an answer is waited for.
        retry_seconds: How long what fails is tried again before the writer gives up.
    """

    writes: int = 500
    size_bytes: int = 9_961_472
    calls: int = 8
    call_seconds: float = 60.0
    retry_seconds: float = 600.0


@dataclass(frozen=True)
class WriteOptions:
    """How rows are written.

    Attributes:
        ramp_up: Whether writes begin at 500 a second and grow by half every 5 minutes; never with an emulator.
        writers: How many writers share that budget: the workers that a pipeline begins with. Each copy of a writer has
            its share; where a worker runs several, or more workers are started later, their shares come on top.
        pace_seconds: The least time between two writes of one row; 0: none.
        is_together: Whether the rows of one `write` go in as few Commits as can be (consistency `commit`).
        cached: How many rows' stamps a writer remembers.
        retention_seconds: How long tombstones stay.
        references: What stands before the paths of references in rows, which are relative to the database that the
            documents are read from: `projects/p/databases/(default)/documents/`; empty for the sink's own database.
        asks_topics: Whether a backfill asks a stream on many machines, which renews no lease, to write what differs;
            else such a stream has ended, and the backfill writes.
        lapse_seconds: After which a lease that was not renewed is anybody's.
        renew_seconds: Between two renewals.
        limits: See there.
    """

    ramp_up: bool = True
    writers: int = 1
    pace_seconds: float = 1.0
    is_together: bool = False
    cached: int = 100_000
    retention_seconds: float = RETENTION_SECONDS
    references: str = ""
    asks_topics: bool = True
    lapse_seconds: float = 60.0
    renew_seconds: float = 15.0
    limits: Limits = field(default_factory=Limits)
