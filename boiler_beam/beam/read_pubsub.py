"""Reads changes from Pub/Sub by Beam's own source, which Dataflow replaces by its service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage

from boiler_beam.beam.elements import Changes, changes_of, reading, tagged
from boiler_beam.connectors.pubsub.envelope import decode

__all__ = ["DecodeChanges", "ReadChangesFromPubSub"]


class DecodeChanges(beam.PTransform):  # type: ignore[misc]
    """Decodes messages with changes of documents, in any of the formats of docs/events.md.

    >>> from boiler_beam.beam import DecodeChanges
    >>> data = b'{"boiler_beam": 1, "path": "users/u1", "version": 7, "fields": {"name": "Ann"}}'
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     decoded = pipeline | beam.Create([data, b"nonsense"]) | DecodeChanges()
    ...     _ = decoded.changes | beam.Map(lambda change: print(change.path, change.decode()))
    ...     _ = decoded.dead_letters | "Why" >> beam.Map(lambda dead_letter: print(dead_letter.code))
    users/u1 {'name': 'Ann'}
    malformed_message

    A row that this project published is decoded as a change of a document.

    Args:
        source: The name of the messages' source in dead letters.

    Returns:
        `Changes`, for a PCollection of bytes or of Beam's `PubsubMessage`.
    """

    def __init__(self, source: str = "pubsub") -> None:
        super().__init__()
        self.source = source

    def expand(self, messages: Any) -> Changes:
        """Applies it to a PCollection of bytes or `PubsubMessage`."""
        return changes_of(messages | "Decode" >> reading(_Decode(self.source)))


class ReadChangesFromPubSub(beam.PTransform):  # type: ignore[misc]
    """Reads messages from a subscription, without an end, and decodes them; with arguments as of `ReadFromPubSub`.

        with beam.Pipeline(options=PipelineOptions(["--streaming", "--runner=DataflowRunner"])) as pipeline:
            changes = pipeline | ReadChangesFromPubSub("projects/my-project/subscriptions/views")
            computed = changes | ComputeRows(MeetingSession)
            computed.rows | WriteToFirestore("my-project")

    Args:
        subscription: `projects/P/subscriptions/S`.
        topic: Instead of a subscription, `projects/P/topics/T`: Beam creates a temporary subscription, which misses
            what was published before.
        id_label: The attribute by which the runner drops copies of a message; None where the runner can't, such as
            Beam's local streaming runner. Copies change no row.
        timestamp_attribute: The attribute with the elements' times, `event_time` in messages of the relay; None: the
            times of publication.

    Returns:
        `Changes`.

    Raises:
        ValueError: Neither or both of subscription and topic are given, or one is malformed.
    """

    def __init__(
        self,
        subscription: str | None = None,
        *,
        topic: str | None = None,
        id_label: str | None = "event_id",
        timestamp_attribute: str | None = None,
    ) -> None:
        super().__init__()
        self.read = beam.io.ReadFromPubSub(
            topic=topic,
            subscription=subscription,
            id_label=id_label,
            with_attributes=True,
            timestamp_attribute=timestamp_attribute,
        )
        self.source = f"pubsub:{subscription or topic}"

    def expand(self, pipeline: Any) -> Changes:
        """Applies it to a pipeline."""
        return changes_of(pipeline | "Pull" >> self.read | "Decode" >> reading(_Decode(self.source)))


class _Decode(beam.DoFn):  # type: ignore[misc]
    def __init__(self, source: str) -> None:
        self.source = source

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, PubsubMessage):
            yield tagged(decode(element.data, element.attributes or {}, self.source))
        elif isinstance(element, bytes):
            yield tagged(decode(element, {}, self.source))
        else:
            raise TypeError(
                f"DecodeChanges: expected bytes or PubsubMessage, got {type(element).__name__}; "
                "fix: map the elements to the messages' bytes"
            )
