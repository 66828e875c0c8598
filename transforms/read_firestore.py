"""Reading Firestore in a pipeline of one's own.

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
    """A `Change` as bytes between stages."""

    def encode(self, value: Change) -> bytes:
        """Its bytes."""
        return encode(value)

    def decode(self, encoded: bytes) -> Any:
        """The reverse."""
        return decode(encoded)

    def is_deterministic(self) -> bool:
        """Its fields are bytes: equal changes are equal bytes."""
        return True


registry.register_coder(Change, ChangeCoder)


class ReadFromFirestore(beam.PTransform):  # type: ignore[misc]
    """Reads collections as they were at one time, in parts that workers share.

    A part whose connection breaks is resumed where it was; one whose worker dies is read again. There are no dead
    letters: all that Firestore holds can be read. The metric `boiler_beam/reads` counts the reads that are billed.

    Args:
        address: `PROJECT` or `PROJECT/DATABASE`.
        collections: As models declare them: `users`, `orders/{order}/lines`, `**/comments`.
        select: The fields to read, each by its stored name, exactly as it is stored: `a.b`, `24h` and `first name` are
            names of one field, and need no quotes. A field within maps is a tuple of names: `("address", "city")`.
            Empty for all.
        where: Filters, all of which must hold: field, likewise, operator as Google's clients write it, value.
        read_time: In microseconds since the epoch: any time within the last hour, or a whole minute of the last 7 days
            where point-in-time recovery is on; None: when the pipeline begins to read. A read that takes more than an
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
        _opened(self.uri, *self.read).queries()  # tells mistakes before anything runs

    def expand(self, pipeline: Any) -> Any:
        """Builds it on a pipeline."""
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
    """Adds to the metric, and ends the connection."""
    Metrics.counter(NAMESPACE, "reads").inc(source.billed.reads)
    source.client.close()
