"""Topics and subscriptions on the emulator, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from boiler_beam.connectors.pubsub.client import Client
from boiler_beam.connectors.pubsub.envelope import Message
from boiler_beam.connectors.pubsub.protos import AcknowledgeRequest, PullRequest, Subscription, Topic
from boiler_beam.connectors.pubsub.publisher import Publisher
from tests.helpers.servers import patience

_PULL_SECONDS = 2.0


class Channel:
    """A topic with one subscription.

    Attributes:
        topic: Its resource name.
        subscription: Likewise.
        source: The subscription as a URI.
        sink: The topic as a URI.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        self.topic, self.subscription = f"projects/{project}/topics/some", f"projects/{project}/subscriptions/some"
        self.source, self.sink = f"pubsub:{self.subscription}", f"pubsub:{self.topic}"
        self._client = Client(self.source, self.subscription)
        self._client.call("CreateTopic", Topic(name=self.topic))
        request = Subscription(name=self.subscription, topic=self.topic, **settings)
        self._client.call("CreateSubscription", request)

    def publish(self, messages: Iterable[Message]) -> int:
        """Publishes messages."""
        publisher = Publisher(self.topic)
        try:
            return publisher.publish(messages)
        finally:
            publisher.close()

    def pulled(self, number: int) -> list[Any]:
        """Pulls a number of messages without this project's source, and acknowledges them."""
        found: list[Any] = []
        waiting = patience(f"{number} messages from {self.subscription}")
        while len(found) < number:
            next(waiting)
            request = PullRequest(subscription=self.subscription, max_messages=number)
            try:
                answer = self._client.call("Pull", request, _PULL_SECONDS)
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
                continue  # there was nothing for so long
            ack_ids = [one.ack_id for one in answer.received_messages]
            if ack_ids:
                self._client.call("Acknowledge", AcknowledgeRequest(subscription=self.subscription, ack_ids=ack_ids))
            found += [one.message for one in answer.received_messages]
        return found

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()
