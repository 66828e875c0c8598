"""Firestore's change events, published to the topic that the environment variable BOILER_BEAM_TOPIC names."""

import os

import functions_framework
from cloudevents.http import CloudEvent

from boiler_beam.connectors.pubsub.relay import forward


@functions_framework.cloud_event
def relay(event: CloudEvent) -> None:
    """Publishes one event; raises where it can't, so that Eventarc gives it again."""
    forward(event, os.environ["BOILER_BEAM_TOPIC"])
