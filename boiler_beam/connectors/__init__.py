"""Connectors: sources and sinks, opened by URIs such as `file:data.jsonl` and `sqlite:rows.db`.

`base` has the protocols `Source` and `Sink`; a new connector is one class, registered in `registry`. The other modules
are connectors (`documents`, `files`, `jsonl`, `sqlite`, `parquet`, `memory`, `firestore`, `pubsub`, `gcs`,
`dead_letters`) and parts that several of them use (`locks`, `letters`, `replacing`, `billed`, `located`, `replay`).
`stores` has the protocol of stores of documents that transactions write.
"""

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
    open_store,
    read_sources,
    register,
    schemes,
)
from boiler_beam.connectors.stores import DocumentStore

__all__ = [
    "BackfillWriter",
    "Control",
    "DeadLetterWriter",
    "DocumentStore",
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
    "open_store",
    "read_dead_letters",
    "read_sources",
    "register",
    "schemes",
]
