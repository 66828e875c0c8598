"""From a function that Firestore's events call to a topic: what `dataflow/relay/function` runs."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import msgspec

from boiler_beam.connectors.pubsub.envelope import event_message
from boiler_beam.connectors.pubsub.publisher import Publisher

__all__ = ["forward"]

_MOST_SECONDS = 20.0
"""Functions have 60 s by default; an event whose function fails is given again by Eventarc."""


@cache
def _publisher(topic: str) -> Publisher:
    return Publisher(topic, most_seconds=_MOST_SECONDS)


def forward(event: Any, topic: str) -> None:
    """Publishes an event; durable when it is back.

    Args:
        event: A `cloudevents.http.CloudEvent`, as functions-framework gives it.
        topic: `projects/P/topics/T`.

    Raises:
        UsageError: There is no such topic, or no right to publish to it.
        BoilerBeamError: It can't be published now.
    """
    attributes = {f"ce-{name}": str(value) for name, value in event.get_attributes().items()}
    data = event.get_data() or b""
    body = data if isinstance(data, bytes) else msgspec.json.encode(data)
    _publisher(topic).publish([event_message(body, attributes, time.time_ns() // 1000)])
