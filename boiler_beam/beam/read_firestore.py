"""Reads Firestore, as of one time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from boiler_beam.beam.elements import NAMESPACE
from boiler_beam.beam.views import ViewLike, plan_name
from boiler_beam.connectors import open_source
from boiler_beam.connectors.firestore.query import Field
from boiler_beam.events import Change
from boiler_beam.plan import load_plan
from boiler_beam.values import Database

__all__ = ["ReadFromFirestore", "address_of"]


class ReadFromFirestore(beam.PTransform):  # type: ignore[misc]
    """Reads documents as of one time, in parts that workers share.

        with beam.Pipeline() as pipeline:
            changes = pipeline | ReadFromFirestore("my-project", MeetingSession)
            users = pipeline | "Names" >> ReadFromFirestore("my-project", collections=["users"], select=["firstName"])
            users | beam.Map(lambda change: print(change.path, change.decode()))

    A part whose connection breaks is resumed; one whose worker dies is read again. There are no dead letters, because
    every document in Firestore can be decoded. The metric `boiler_beam/reads` counts the billed reads.

    Args:
        project: `PROJECT`, or `PROJECT/DATABASE`.
        views: Views whose documents are read, as classes or as `"module:Class"`.
        database: The database, if it is not in `project`; None: `(default)`.
        collections: Collections that are read besides, as models declare them: `users`, `orders/{order}/lines`,
            `**/comments`.
        select: The fields to read, each by its exact stored name: `a.b`, `24h` and `first name` are names of one field,
            and need no quotes. A field within maps is a tuple of names: `("address", "city")`. Empty for all.
        where: Filters that must all hold: a field as in `select`, an operator as in Google's clients, a value.
        read_time: In microseconds since the epoch: any time within the last hour, or a whole minute of the last 7 days
            if point-in-time recovery is enabled; None: when the pipeline begins to read. A read that takes more than an
            hour needs a whole minute, and point-in-time recovery.

    Returns:
        A PCollection of `boiler_beam.events.Change`: `path`, `version` (its update time in microseconds), `fields`
        (JSON; `change.decode()` gives Python values).

    Raises:
        UsageError: Neither views nor collections are given, or an argument is malformed.
        DeclarationError: The views can't be compiled.
    """

    def __init__(
        self,
        project: str,
        *views: ViewLike,
        database: str | None = None,
        collections: Sequence[str] = (),
        select: Sequence[Field] = (),
        where: Sequence[tuple[Field, str, Any]] = (),
        read_time: int | None = None,
    ) -> None:
        super().__init__()
        self.uri = f"firestore:{address_of(project, database)}"
        read = list(collections)
        if views or not read:
            fix = "pass a view model, or collections=['users']"
            read += load_plan(plan_name("ReadFromFirestore", views, Database(), fix)).collections
        self.read = (tuple(dict.fromkeys(read)), tuple(select), tuple(where), read_time)
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


def address_of(project: str, database: str | None) -> str:
    """Returns the address of a database, `PROJECT` or `PROJECT/DATABASE`."""
    return project if database is None else f"{project}/{database}"


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
