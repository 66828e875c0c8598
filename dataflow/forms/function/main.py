"""Applies forms when Firestore says that a document was written.

The environment variables BOILER_BEAM_FORMS (`module:Class,...`) and BOILER_BEAM_STORE (`firestore:PROJECT`) say which.
"""

import os
from functools import cache

import functions_framework
from cloudevents.http import CloudEvent

from boiler_beam.connectors import open_store
from boiler_beam.events import DeadLetter
from boiler_beam.writing import FormRunner
from boiler_beam.writing.function import apply_event
from pipelines.views import load_forms


def refuse(letter: DeadLetter) -> None:
    """Is not called: a form whose `apply` fails raises, so that Eventarc delivers its event again."""
    raise RuntimeError(letter.message)


@cache
def runner() -> FormRunner:
    """Opens the store, once for each instance."""
    forms = load_forms([os.environ["BOILER_BEAM_FORMS"]])
    return FormRunner(forms, open_store(os.environ["BOILER_BEAM_STORE"]), refuse)


@functions_framework.cloud_event
def apply_forms(event: CloudEvent) -> None:
    """Applies one form; raises where it can't, so that Eventarc delivers the event again."""
    apply_event(event, runner())
