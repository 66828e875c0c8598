"""`ApplyForms` in a pipeline: each form once, also if its change comes twice."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import msgspec
import pytest
from apache_beam.testing.util import assert_that, equal_to

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.beam import ApplyForms
from boiler_beam.connectors import open_source
from boiler_beam.events import Change
from tests.helpers.form_classes import AttendanceForm, Ticket

pytestmark = pytest.mark.beam


def test_forms_are_applied(tmp_path: Path) -> None:
    uri = f"documents:{tmp_path}/app.db"
    with bb.transaction(uri) as tx:
        for name in ("ann", "broken"):
            tx.create(Ticket(user=name), name)
        for number, name in enumerate(["ann", "ann", "bob", "broken"]):
            tx.create(AttendanceForm(user=name, ticket=Ref(f"tickets/{name}"), attends=True), f"f{number}")
    changes = [one for one in open_source(uri).read_all() if isinstance(one, Change)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        applied = (
            pipeline
            | beam.Create([*changes, *changes, Change("users/u1", 1, msgspec.Raw(b"{}"))])
            | ApplyForms(AttendanceForm, store=uri)
        )
        outcomes = applied.outcomes | beam.Map(lambda one: (one.path, one.state))
        assert_that(
            outcomes,
            equal_to(
                [("attendance_forms/f0", "done"), ("attendance_forms/f1", "done"), ("attendance_forms/f2", "rejected")]
            ),
        )
        letters = applied.dead_letters | beam.Map(lambda one: (one.path, one.code)) | beam.Distinct()
        assert_that(letters, equal_to([("attendance_forms/f3", "form_failed")]), "letters")
    with bb.transaction(uri) as tx:
        ticket = tx.get(Ticket, "ann")
    assert ticket is not None
    assert ticket.changes == 2


def test_a_form_of_main_is_refused() -> None:
    with pytest.raises(bb.UsageError, match="expected a class that workers can import, got one in __main__"):
        ApplyForms("__main__:Form", store="documents:x.db")
