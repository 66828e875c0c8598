"""`boiler-beam relay`: listens to a database and publishes its changes to a topic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing

from boiler_beam.connectors import open_source
from boiler_beam.errors import UsageError
from boiler_beam.models.collection import CollectionPattern
from boiler_beam.program.signals import asked_to_end
from boiler_beam.relay import RelayReport, RelayState, relay

__all__ = ["run_relay"]


def run_relay(source: str, topic: str, state: str, collections: Sequence[str]) -> RelayReport:
    """Runs the relay until it is asked to end, or the source ends.

    Raises:
        UsageError: An argument is wrong; nothing was published.
        BoilerBeamError: A message can't be published, or the state can't be written.
    """
    path = state.removeprefix("sqlite:")
    if not state.startswith("sqlite:") or not path:
        raise UsageError(f"--state {state}: expected sqlite:PATH; fix: write sqlite:relay.db")
    for text in collections:
        if (problem := CollectionPattern(text).problem()) is not None:
            raise UsageError(
                f"--collection {text}: expected a collection as models declare it, got {problem}; "
                "fix: write users, rooms/{room}/messages or **/comments"
            )
    opened = open_source(source).following()
    from boiler_beam.connectors.pubsub.publisher import Publisher

    with ExitStack() as stack:
        publisher = stack.enter_context(closing(Publisher(topic)))
        publisher.check()
        known = stack.enter_context(closing(RelayState(path, source, topic)))
        should_stop = stack.enter_context(asked_to_end())
        print(f"relays {source} to {topic}", file=sys.stderr)
        return relay(
            opened, collections, publisher.publish, known, database=_database_of(source), should_stop=should_stop
        )


def _database_of(source: str) -> str:
    """Returns the resource name of a Firestore database; empty text for another source.

    >>> _database_of("firestore:my-project")
    'projects/my-project/databases/(default)'
    """
    scheme, _, rest = source.partition(":")
    project, _, database = rest.partition("/")
    return f"projects/{project}/databases/{database or '(default)'}" if scheme == "firestore" else ""
