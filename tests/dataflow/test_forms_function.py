"""The function that applies forms, called as Eventarc calls it: twice, for other documents, and when the code is broken."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.connectors import open_store
from tests.dataflow.test_relay_function import headers, written
from tests.helpers.form_classes import AttendanceForm, Ticket
from tests.helpers.function import FORMS, post, served_function


def test_a_form_is_applied_once_however_often_its_event_comes(
    firestore_emulator: str, project: str, tmp_path: Path
) -> None:
    uri, log = f"firestore:{project}", tmp_path / "log"
    with closing(open_store(uri)) as store:
        with bb.transaction(store) as tx:
            tx.create(Ticket(user="ann"), "t1")
            tx.create(Ticket(user="broken"), "t2")
            tx.create(AttendanceForm(user="ann", ticket=Ref("tickets/t1"), attends=True), "f1")
            tx.create(AttendanceForm(user="bob", ticket=Ref("tickets/t1"), attends=True), "f2")
            tx.create(AttendanceForm(user="broken", ticket=Ref("tickets/t2"), attends=True), "f3")
        variables = {
            "BOILER_BEAM_FORMS": "tests.helpers.form_classes", "BOILER_BEAM_STORE": uri,
            "FIRESTORE_EMULATOR_HOST": os.environ["FIRESTORE_EMULATOR_HOST"],
        }  # fmt: skip
        with served_function(FORMS, "apply_forms", variables, log) as address:

            def send(path: str) -> int:
                return post(address, written(path, 7), headers("written", path))

            names = (
                "attendance_forms/f1",
                "attendance_forms/f1",
                "attendance_forms/f2",
                "attendance_forms/gone",
                "tickets/t1",
            )
            assert [send(name) for name in names] == [200] * 5, log.read_text()
            assert send("attendance_forms/f3") == 500  # Eventarc delivers it again
        with bb.transaction(store) as tx:
            ticket = tx.get(Ticket, "t1")
            forms = tx.get_all(AttendanceForm, ["f1", "f2", "f3"])
    assert ticket is not None
    assert (ticket.attendance, ticket.changes) == (True, 1)
    assert [one.outcome and one.outcome.state for one in forms.values()] == ["done", "rejected", None]
    assert "a mistake in the code" in log.read_text()
