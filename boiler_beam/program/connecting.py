"""Opens what a run reads and writes: each a URI, or a connector that the caller made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from boiler_beam.connectors.base import Sink, Source
from boiler_beam.connectors.dead_letters import DeadLetterWriter, dead_letters_beside, open_dead_letters
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.registry import open_sink, open_source, with_write_options
from boiler_beam.errors import UsageError
from boiler_beam.values import INT64_MAX, micros_of, parse_timestamp

__all__ = ["Sources", "opened_dead_letters", "opened_sink", "opened_sources", "read_time_micros", "state_beside"]

Sources = str | Source | Sequence[str | Source]
"""The URIs of sources, or sources."""


def opened_sources(sources: Sources) -> list[Source]:
    """Opens sources. Nothing is read yet.

    Raises:
        UsageError: A URI is malformed, or its scheme is not one of a source; or there is none.
    """
    given = [sources] if isinstance(sources, (str, Source)) else sources
    if not given:
        raise UsageError("--source: expected a source of documents, got none; fix: add --source file:PATH")
    return [open_source(one) if isinstance(one, str) else one for one in given]


def opened_sink(sink: str | Sink, options: WriteOptions) -> Sink:
    """Opens a sink. Nothing is written yet.

    Raises:
        UsageError: The URI is malformed, or its scheme is not one of a sink.
    """
    return with_write_options(open_sink(sink) if isinstance(sink, str) else sink, options)


def opened_dead_letters(dead_letter: str | DeadLetterWriter | None, sink: Sink) -> DeadLetterWriter:
    """Opens the writer of dead letters, by default of a file beside the sink. The file comes with the first one.

    Raises:
        UsageError: The URI is not one of dead letters.
    """
    if isinstance(dead_letter, DeadLetterWriter):
        return dead_letter
    return open_dead_letters(dead_letters_beside(sink) if dead_letter is None else dead_letter)


def state_beside(sink: str | Sink, *, is_bounded: bool) -> str:
    """Returns the default of `--state`.

    >>> state_beside("jsonl:rows.jsonl", is_bounded=False)
    'sqlite:rows.jsonl.state.db'
    """
    if is_bounded:
        return "memory:"
    opened = open_sink(sink) if isinstance(sink, str) else sink
    return f"sqlite:{opened.rest}.state.db" if opened.has_path else "sqlite:boiler_beam.state.db"


def read_time_micros(moment: str | int | datetime) -> int:
    """Returns microseconds since the epoch for RFC 3339 text, an integer or a time with its zone.

    >>> read_time_micros("1970-01-01T00:00:01Z")
    1000000

    Raises:
        UsageError: It is none of these.
    """
    if isinstance(moment, int):
        return moment
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError(
                f"--read_time {moment}: expected a time with its zone, got none; fix: datetime.now(timezone.utc)"
            )
        return micros_of(moment)
    if moment.isdecimal() and int(moment) <= INT64_MAX:
        return int(moment)
    try:
        return micros_of(parse_timestamp(moment))
    except ValueError:
        raise UsageError(
            f"--read_time {moment}: expected RFC 3339 (2026-01-01T00:00:00Z) or microseconds since the epoch; "
            "fix: write one of the two"
        ) from None
