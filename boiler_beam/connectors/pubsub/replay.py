"""Replays dead letters to the topic that a stream on many machines follows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import msgspec

from boiler_beam.connectors.dead_letters import read_dead_letters
from boiler_beam.connectors.files import change_of_line
from boiler_beam.connectors.pubsub.envelope import CODES, Message, document_message, raw_message, touch_message
from boiler_beam.connectors.pubsub.letters import acknowledge, pulled
from boiler_beam.connectors.pubsub.publisher import Publisher
from boiler_beam.errors import UsageError
from boiler_beam.events import Change, DeadLetter, Touch, View

__all__ = ["replay", "replayed"]

_TOPIC = "pubsub:"


def replayed(
    dead_letters: Iterable[DeadLetter], views: Sequence[View], now_micros: int
) -> Iterator[tuple[str, Message]]:
    """Yields for each dead letter what is published, `document`, `message` or `row`, and the message.

    A dead letter of a row has no input: the stream is asked to render the row again, by a touch (S16). One of neither
    is left out. The ids of the messages are new, because a stream drops a message whose id came a moment ago.

    Args:
        dead_letters: The dead letters.
        views: The views of the stream.
        now_micros: The time.
    """
    for number, dead_letter in enumerate(dead_letters):
        event_id = f"replay.{now_micros}.{number}"
        if dead_letter.input is None:
            for view in views:
                if dead_letter.path is not None and view.matches(dead_letter.path):
                    yield "row", touch_message(Touch(view.name, dead_letter.path, now_micros))
        elif dead_letter.code in CODES:
            data, attributes = raw_message(dead_letter.input)
            yield "message", Message(data, {**attributes, "event_id": event_id})
        elif (change := _change_of(dead_letter)) is not None:
            yield "document", document_message(change, event_id=event_id)


def _change_of(dead_letter: DeadLetter) -> Change | None:
    if dead_letter.stage == "read":
        found = change_of_line(dead_letter.input or "", dead_letter.source)
        return found if isinstance(found, Change) else None
    if dead_letter.path is None or dead_letter.version is None or dead_letter.input is None:
        return None
    return Change(dead_letter.path, dead_letter.version, msgspec.Raw(dead_letter.input.encode()))


def replay(
    uri: str, topic: str, views: Sequence[View], now: Callable[[], int] = lambda: time.time_ns() // 1000
) -> Counter[str]:
    """Publishes the inputs of dead letters; those of a subscription are acknowledged then.

    Args:
        uri: The URI of the dead letters.
        topic: `projects/P/topics/T`, which the stream's subscription belongs to.
        views: The views of the stream.
        now: The time in microseconds.

    Returns:
        How many messages of each kind were published.

    Raises:
        UsageError: There are no dead letters, or no such topic.
        BoilerBeamError: They can't be published; some of them may be.
    """
    acknowledged: list[str] = []
    if uri.startswith(_TOPIC):
        found = list(pulled(uri, uri.removeprefix(_TOPIC)))
        dead_letters, acknowledged = [dead_letter for dead_letter, _ in found], [name for _, name in found]
    else:
        dead_letters = list(read_dead_letters(uri))
    messages = list(replayed(dead_letters, views, now()))
    with closing(Publisher(topic.removeprefix(_TOPIC))) as publisher:
        publisher.check()
        publisher.publish(message for _, message in messages)
    if acknowledged:
        acknowledge(uri, uri.removeprefix(_TOPIC), acknowledged)
    if dead_letters and not messages:
        raise UsageError(
            f"{uri}: expected inputs of documents, or rows of the views, got {len(dead_letters)} dead letters without; "
            "fix: name the stream's views by --views"
        )
    return Counter(kind for kind, _ in messages)
