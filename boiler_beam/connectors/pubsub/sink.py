"""The sink `pubsub:projects/P/topics/T`: publishes the rows of a stream as messages. A topic stores no rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter
from boiler_beam.connectors.pubsub.client import resource_name
from boiler_beam.connectors.pubsub.envelope import row_message
from boiler_beam.connectors.pubsub.publisher import Publisher
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, View

__all__ = ["PubsubSink"]


class PubsubSink(Sink):
    """Publishes each changed row with its stamp; the format is in docs/events.md."""

    scheme: ClassVar[str] = "pubsub"
    keeps_controls: ClassVar[bool] = False

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        resource_name(self.uri, rest, "topics")

    def controls(self) -> dict[str, Control]:
        """Returns an empty dict: a topic stores no control data."""
        return {}

    def current_rows(self, view: View) -> Iterator[EncodedRow]:
        """Yields nothing: a topic stores no rows."""
        return iter(())

    def backfill(self, views: Sequence[View]) -> AbstractContextManager[BackfillWriter]:
        """Raises an error: a topic stores no rows, so a backfill could not compare or prune them."""
        raise UsageError(
            f"{self.uri}: expected a sink that stores rows, got a topic; fix: --mode stream, or another --sink"
        )

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """Opens the topic for a stream. Another writer of the topic is not detected."""
        publisher = Publisher(self.rest, self.uri)
        try:
            publisher.check()
            yield _Writer(publisher)
        finally:
            publisher.close()


class _Writer(StreamWriter):
    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def write(self, rows: Sequence[tuple[View, EncodedRow]]) -> None:
        self.publisher.publish(row_message(view.name, row) for view, row in rows)

    def control(self, controls: Mapping[str, Control]) -> None:
        """Does nothing: the state of the stream keeps the control data."""
