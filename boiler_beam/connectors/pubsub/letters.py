"""Dead letters as messages: written to a topic, read from a subscription.

A message's body is the dead letter as JSON; its attributes `stage` and `code` are for filters of subscriptions, and
`event_id` is equal for copies of one dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import grpc
import msgspec

from boiler_beam.connectors.letters import SharedWriter, digest_of
from boiler_beam.connectors.pubsub.client import Client, failure, resource_name
from boiler_beam.connectors.pubsub.envelope import Message
from boiler_beam.connectors.pubsub.protos import AcknowledgeRequest, PullRequest
from boiler_beam.connectors.pubsub.publisher import Publisher
from boiler_beam.errors import UsageError
from boiler_beam.events import DeadLetter

__all__ = ["acknowledge", "open_writer", "pulled", "read_letters"]

_PULL_SECONDS, _MOST = 2.0, 1000


class _TopicWriter(SharedWriter):
    def __init__(self, uri: str, topic: str, now: Callable[[], str]) -> None:
        super().__init__(uri, now)
        self.publisher = Publisher(topic, uri)

    def _send(self, dead_letters: list[DeadLetter]) -> None:
        self.publisher.publish(
            Message(
                msgspec.json.encode(dead_letter),
                {"event_id": digest_of(dead_letter), "stage": dead_letter.stage, "code": dead_letter.code},
            )
            for dead_letter in dead_letters
        )

    def _end(self) -> None:
        self.publisher.close()


def open_writer(uri: str, topic: str, now: Callable[[], str]) -> SharedWriter:
    """Opens a writer to a topic."""
    return _TopicWriter(uri, topic, now)


def pulled(uri: str, subscription: str) -> Iterator[tuple[DeadLetter, str]]:
    """Yields dead letters with the ids by which they are acknowledged, until no more come.

    Raises:
        UsageError: There is no such subscription, or a message is not a dead letter.
    """
    with closing(Client(uri, resource_name(uri, subscription, "subscriptions"))) as client:
        request = PullRequest(subscription=subscription, max_messages=_MOST)
        while True:
            try:
                messages = client.call("Pull", request, _PULL_SECONDS).received_messages
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return
                raise failure(client, error, "to pull dead letters") from error
            if not messages:
                return
            for one in messages:
                try:
                    yield msgspec.json.decode(one.message.data, type=DeadLetter), one.ack_id
                except msgspec.MsgspecError as error:
                    raise UsageError(f"{uri}: expected dead letters, got: {error}; fix: name another") from None


def acknowledge(uri: str, subscription: str, ids: Sequence[str]) -> None:
    """Acknowledges messages, so that they are not delivered again."""
    with closing(Client(uri, subscription)) as client:
        for begin in range(0, len(ids), _MOST):
            request = AcknowledgeRequest(subscription=subscription, ack_ids=ids[begin : begin + _MOST])
            try:
                client.call("Acknowledge", request)
            except grpc.RpcError as error:
                raise failure(client, error, "to acknowledge dead letters") from error


def read_letters(uri: str, subscription: str) -> Iterator[DeadLetter]:
    """Yields the dead letters of a subscription, which delivers them again later."""
    return (dead_letter for dead_letter, _ in pulled(uri, subscription))
