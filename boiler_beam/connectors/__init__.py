"""Connectors: what a URI opens. `file:data.jsonl` is a source, `sqlite:rows.db` a sink; a new scheme is one class."""

from boiler_beam.connectors.base import BackfillWriter, Control, KeyedSource, Sink, Source, StreamWriter
from boiler_beam.connectors.dead_letters import (
    DeadLetterWriter,
    dead_letters_beside,
    open_dead_letters,
    read_dead_letters,
)
from boiler_beam.connectors.registry import (
    database_of,
    open_sink,
    open_source,
    open_sources,
    read_sources,
    register,
    schemes,
)

__all__ = [
    "BackfillWriter",
    "Control",
    "DeadLetterWriter",
    "KeyedSource",
    "Sink",
    "Source",
    "StreamWriter",
    "database_of",
    "dead_letters_beside",
    "open_dead_letters",
    "open_sink",
    "open_source",
    "open_sources",
    "read_dead_letters",
    "read_sources",
    "register",
    "schemes",
]
