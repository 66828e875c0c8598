"""Reads Firestore in your own pipeline.

with beam.Pipeline() as pipeline:
    changes = pipeline | ReadFromFirestore("my-project", ["users", "orders/{order}/lines"])
    changes | beam.Map(lambda change: (change.path, decode_fields(change.fields)))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder, registry
from apache_beam.metrics import Metrics

from boiler_beam.connectors import open_source
from boiler_beam.connectors.firestore.query import Field
from boiler_beam.events import Change
from boiler_beam.steps.keyed.wire import decode, encode
from transforms.write import NAMESPACE

__all__ = ["ChangeCoder", "ReadFromFirestore"]


class ChangeCoder(Coder):  # type: ignore[misc]
    """The coder of a `Change` between stages."""

    def encode(self, value: Change) -> bytes:
        """Encodes a change."""
        return encode(value)

    def decode(self, encoded: bytes) -> Any:
        """Decodes a change."""
        return decode(encoded)

    def is_deterministic(self) -> bool:
        """Returns True: equal changes have equal bytes, because their fields are bytes."""
        return True


registry.register_coder(Change, ChangeCoder)


class ReadFromFirestore(beam.PTransform):  # type: ignore[misc]
    """Reads collections as of one time, in parts that workers share.

    A part whose connection breaks is resumed; one whose worker dies is read again. There are no dead letters, because
    every document in Firestore can be decoded. The metric `boiler_beam/reads` counts the billed reads.

    Args:
        address: `PROJECT` or `PROJECT/DATABASE`.
        collections: The collections, as models declare them: `users`, `orders/{order}/lines`, `**/comments`.
        select: The fields to read, each by its exact stored name: `a.b`, `24h` and `first name` are names of one field,
            and need no quotes. A field within maps is a tuple of names: `("address", "city")`. Empty for all.
        where: Filters that must all hold: a field as in `select`, an operator as in Google's clients, a value.
        read_time: In microseconds since the epoch: any time within the last hour, or a whole minute of the last 7 days
            if point-in-time recovery is enabled; None: when the pipeline begins to read. A read that takes more than an
            hour needs a whole minute, and point-in-time recovery.

    Returns:
        A PCollection of `boiler_beam.events.Change`: `path`, `version` (its update time in microseconds), `fields`
        (JSON, for `boiler_beam.values.decode_fields`).
    """

    def __init__(
        self,
        address: str,
        collections: Sequence[str],
        *,
        select: Sequence[Field] = (),
        where: Sequence[tuple[Field, str, Any]] = (),
        read_time: int | None = None,
    ) -> None:
        super().__init__()
        self.uri = f"firestore:{address}"
        self.read = (tuple(collections), tuple(select), tuple(where), read_time)
        _opened(self.uri, *self.read).queries()  # reports mistakes before anything runs

    def expand(self, pipeline: Any) -> Any:
        """Applies it to a pipeline."""
        return (
            pipeline
            | "Begin" >> beam.Create([self.uri])
            | "Splits" >> beam.ParDo(_Splits(*self.read)).with_output_types(str)
            | "Share" >> beam.Reshuffle()
            | "Read" >> beam.ParDo(_Read(self.uri)).with_output_types(Change)
        )


def _opened(
    uri: str,
    collections: Sequence[str],
    select: Sequence[Field],
    where: Sequence[tuple[Field, str, Any]],
    read_time: int | None,
) -> Any:
    source: Any = open_source(uri)
    source.prepare(collections)
    source.select, source.where, source.read_time = select, where, read_time
    return source


class _Splits(beam.DoFn):  # type: ignore[misc]
    def __init__(self, *read: Any) -> None:
        self.read = read

    def process(self, element: str) -> Iterator[str]:
        source = _opened(element, *self.read)
        yield from source.splits()
        _count(source)


class _Read(beam.DoFn):  # type: ignore[misc]
    def __init__(self, uri: str) -> None:
        self.uri = uri

    def process(self, element: str) -> Iterator[Change]:
        source: Any = open_source(self.uri)
        yield from source.read(element)
        _count(source)


def _count(source: Any) -> None:
    """Adds to the metric, and closes the connection."""
    Metrics.counter(NAMESPACE, "reads").inc(source.billed.reads)
    source.client.close()
