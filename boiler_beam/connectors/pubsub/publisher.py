"""Publishes many messages in few calls, with several calls in flight; `publish` returns when they are durable."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from boiler_beam.connectors.pubsub.client import PASSING, Client, failure, resource_name
from boiler_beam.connectors.pubsub.envelope import Message, touch_message
from boiler_beam.connectors.pubsub.protos import GetTopicRequest, PublishRequest
from boiler_beam.events import Touch

__all__ = ["Publisher", "publish_touches"]

_MESSAGES_OF_A_CALL, _BYTES_OF_A_CALL = 1000, 9 << 20
"""The most messages in a call; the server accepts 1,000, and 10 MB. Source: https://cloud.google.com/pubsub/quotas"""
_OVERHEAD_BYTES = 512
_IN_FLIGHT = 4
_CALL_SECONDS = 60.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 10.0


class Publisher:
    """Publishes to one topic.

    Args:
        topic: `projects/P/topics/T`.
        uri: The URI, for messages.
        most_seconds: How long a call is repeated while the server can't be reached, or is too busy.
        sleep: Sleeps for some seconds.

    Raises:
        UsageError: The name is not one of a topic.
    """

    def __init__(
        self,
        topic: str,
        uri: str = "",
        *,
        most_seconds: float = 300,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri = uri or f"pubsub:{topic}"
        self.topic = resource_name(self.uri, topic, "topics")
        self.client = Client(self.uri, topic)
        self.most_seconds, self.clock, self.sleep = most_seconds, clock, sleep

    def check(self) -> None:
        """Checks that the topic exists. A program that may only publish has no right to look, and does not fail.

        Raises:
            UsageError: The topic does not exist, or there are no credentials.
            BoilerBeamError: The server can't be reached.
        """
        try:
            self.client.call("GetTopic", GetTopicRequest(topic=self.topic))
        except grpc.RpcError as error:
            if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.PERMISSION_DENIED:
                return
            raise failure(self.client, error, "to find the topic") from error

    def publish(self, messages: Iterable[Message]) -> int:
        """Publishes messages, waits until the server has stored all of them, and returns their number.

        Raises:
            UsageError: The topic does not exist, or the program may not publish to it.
            BoilerBeamError: They can't be published; some of them may have been.
        """
        flying: deque[tuple[Any, Any]] = deque()
        number = 0
        for request in self._requests(messages):
            number += len(request.messages)
            if len(flying) >= _IN_FLIGHT:
                self._land(*flying.popleft())
            flying.append((request, self.client.future("Publish", request, _CALL_SECONDS)))
        while flying:
            self._land(*flying.popleft())
        return number

    def _requests(self, messages: Iterable[Message]) -> Iterator[Any]:
        request, size = PublishRequest(topic=self.topic), 0
        for data, attributes in messages:
            more = len(data) + _OVERHEAD_BYTES + sum(map(len, attributes.values()))
            if len(request.messages) >= _MESSAGES_OF_A_CALL or (size and size + more > _BYTES_OF_A_CALL):
                yield request
                request, size = PublishRequest(topic=self.topic), 0
            request.messages.add(data=data, attributes=attributes)
            size += more
        if request.messages:
            yield request

    def _land(self, request: Any, call: Any) -> None:
        """Waits for a call, and repeats it, at growing intervals, while its error is transient."""
        deadline, pause = self.clock() + self.most_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                call.result()
                return
            except grpc.RpcError as error:
                code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
                if code not in PASSING or self.clock() + pause > deadline:
                    raise failure(self.client, error, "to publish") from error
            self.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            call = self.client.future("Publish", request, _CALL_SECONDS)

    def close(self) -> None:
        """Closes the connection."""
        self.client.close()


def publish_touches(topic: str, touches: Iterable[Touch]) -> int:
    """Publishes touches to the topic that a stream follows, for the rows that a backfill found to differ (S16).

    Args:
        topic: `projects/P/topics/T`, as `PubsubSource.topic` has it.
        touches: The rows.

    Raises:
        BoilerBeamError: They can't be published; some of them may be.
    """
    publisher = Publisher(topic)
    try:
        return publisher.publish(map(touch_message, touches))
    finally:
        publisher.close()
