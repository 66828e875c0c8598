"""Publishes Firestore's events to a topic; the function in `dataflow/relay/function` calls it."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import msgspec

from boiler_beam.connectors.pubsub.envelope import event_message
from boiler_beam.connectors.pubsub.publisher import Publisher

__all__ = ["forward"]

_MOST_SECONDS = 20.0
"""The time limit: functions have 60 s by default, and Eventarc delivers an event again if its function fails."""


@cache
def _publisher(topic: str) -> Publisher:
    return Publisher(topic, most_seconds=_MOST_SECONDS)


def forward(event: Any, topic: str) -> None:
    """Publishes an event, and returns when the message is durable.

    Args:
        event: A `cloudevents.http.CloudEvent`, as functions-framework passes it.
        topic: `projects/P/topics/T`.

    Raises:
        UsageError: The topic does not exist, or the program may not publish to it.
        BoilerBeamError: It can't be published now.
    """
    attributes = {f"ce-{name}": str(value) for name, value in event.get_attributes().items()}
    data = event.get_data() or b""
    body = data if isinstance(data, bytes) else msgspec.json.encode(data)
    _publisher(topic).publish([event_message(body, attributes, time.time_ns() // 1000)])
