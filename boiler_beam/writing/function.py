"""Applies the form of a Firestore event; the function in `dataflow/forms/function` calls it."""

from __future__ import annotations

from typing import Any

from boiler_beam.errors import UsageError
from boiler_beam.writing.forms import Applied, FormRunner

__all__ = ["apply_event"]


def apply_event(event: Any, runner: FormRunner) -> Applied | None:
    """Applies the form of an event, and returns what became of it; None if it is no form.

    The form is read again, so the event's data are not needed, and events may come twice, late, or in any order.

    Args:
        event: A `cloudevents.http.CloudEvent`, as functions-framework passes it.
        runner: The forms and their store.

    Raises:
        UsageError: It is not the event of a document.
        Exception: What `apply` raised, or the store; the event is then delivered again.
    """
    attributes = event.get_attributes()
    path = attributes.get("document") or str(attributes.get("subject", "")).removeprefix("documents/")
    if not path or "/" not in path:
        raise UsageError(
            f"{attributes.get('type')}: expected the event of a document, got one without its path; "
            "fix: trigger the function by google.cloud.firestore.document.v1.written"
        )
    return runner.take_path(path)
