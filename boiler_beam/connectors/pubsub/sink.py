"""Rows as messages: `pubsub:projects/P/topics/T`. A topic remembers nothing: it follows a stream, and keeps no rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar

from boiler_beam.connectors.base import BackfillWriter, Control, Sink, StreamWriter
from boiler_beam.connectors.pubsub.client import resource_name
from boiler_beam.connectors.pubsub.envelope import row_message
from boiler_beam.connectors.pubsub.publisher import Publisher
from boiler_beam.errors import UsageError
from boiler_beam.events import Row, View

__all__ = ["PubsubSink"]


class PubsubSink(Sink):
    """Publishes each row that changed, with its stamp; see docs/events.md."""

    scheme: ClassVar[str] = "pubsub"
    keeps_controls: ClassVar[bool] = False

    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        resource_name(self.uri, rest, "topics")

    def controls(self) -> dict[str, Control]:
        """None: a topic keeps none."""
        return {}

    def standing(self, view: View) -> Iterator[Row]:
        """None: a topic keeps none."""
        return iter(())

    def backfill(self, views: Sequence[View]) -> AbstractContextManager[BackfillWriter]:
        """Refused: what stands, and what must go, can't be told from a topic."""
        raise UsageError(
            f"{self.uri}: expected a sink that keeps rows, got a topic; fix: --mode stream, or another --sink"
        )

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        """See `Sink`. That it has one writer is not looked after."""
        publisher = Publisher(self.rest, self.uri)
        try:
            publisher.check()
            yield _Writer(publisher)
        finally:
            publisher.close()


class _Writer(StreamWriter):
    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def write(self, rows: Sequence[tuple[View, Row]]) -> None:
        self.publisher.publish(row_message(view.name, row) for view, row in rows)

    def control(self, controls: Mapping[str, Control]) -> None:
        """Nothing keeps it; the stream's state has it."""
