"""Options of writing to Firestore; this module does not import a client library."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RETENTION_SECONDS", "Limits", "WriteOptions"]

RETENTION_SECONDS = 10 * 86_400.0
"""How long a tombstone is kept: longer than an older change can be redelivered (S3)."""


@dataclass(frozen=True)
class Limits:
    """Limits of a writer.

    Attributes:
        writes: The most writes in a call.
        size_bytes: The most bytes in a call. Firestore's limit is 10 MiB.
        calls: The most calls in flight.
        call_seconds: The timeout of a call.
        retry_seconds: How long a failed write is repeated before the writer gives up.
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
        ramp_up: Whether the rate starts at 500 writes a second and grows by half every 5 minutes; never with an
            emulator.
        writers: How many writers share that rate: the initial workers of a pipeline. Each copy of a writer has one
            share; if a worker runs several copies, or workers are added later, their shares are added.
        pace_seconds: The minimal time between two writes of one row; 0: none.
        is_together: Whether the rows of one `write` are sent in as few Commits as possible (consistency `commit`).
        cached: The number of paths whose state a writer caches.
        retention_seconds: How long tombstones are kept.
        references: The prefix for the paths of local references in rows, which names the database of the documents:
            `projects/p/databases/(default)/documents/`; empty for the sink's own database.
        asks_topics: Whether a backfill sends touches to a stream on many machines, which renews no lease. If not, the
            stream counts as ended, and the backfill writes the rows.
        lapse_seconds: The seconds after which a lease that was not renewed expires.
        renew_seconds: The seconds between two renewals of a lease.
        limits: The limits of a writer.
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
