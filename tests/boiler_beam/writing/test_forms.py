"""Forms on both stores: their effect is there once, however often, late or concurrently they are applied."""

from __future__ import annotations

import random
import threading
from contextlib import closing
from typing import Any

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.connectors import DocumentStore, open_source, open_store
from boiler_beam.connectors.stores import Write
from boiler_beam.events import Change, DeadLetter
from boiler_beam.writing import FormRunner, applying_forms, follow_forms
from boiler_beam.writing.forms import Applied
from tests.helpers.form_classes import AttendanceForm, JoinForm, Ticket
from tests.helpers.servers import wait_until

FORMS = [AttendanceForm, JoinForm]


@pytest.fixture
def letters() -> list[DeadLetter]:
    return []


@pytest.fixture
def runner(store: DocumentStore, letters: list[DeadLetter]) -> FormRunner:
    with bb.transaction(store) as tx:
        tx.create(Ticket(user="ann"), "t1")
    return FormRunner(FORMS, store, letters.append)


def put(store: DocumentStore, path: str, fields: dict[str, Any]) -> Change:
    with closing(store.begin()) as attempt:
        attempt.commit([Write(path, fields)])
    return read(store, path)


def read(store: DocumentStore, path: str) -> Change:
    with closing(store.begin()) as attempt:
        (found,) = attempt.get([path])
        return found


def form(store: DocumentStore, name: str, **fields: Any) -> Change:
    values = {"user": "ann", "ticket": "t1", "attends": True, **fields}
    return put(store, f"attendance_forms/{name}", values)


def outcome(store: DocumentStore, path: str) -> Any:
    return msgspec.json.decode(bytes(read(store, path).fields)).get("_outcome")


def ticket(store: DocumentStore, name: str = "t1") -> Ticket | None:
    with bb.transaction(store) as tx:
        return tx.get(Ticket, name)


def changes(store: DocumentStore) -> int:
    found = ticket(store)
    assert found is not None
    return found.changes


def test_a_form_is_applied_and_marked_in_one_commit(runner: FormRunner, store: DocumentStore) -> None:
    applied = runner.take(form(store, "f1"))
    assert applied is not None
    assert (applied.state, set(applied.versions)) == ("done", {"tickets/t1", "attendance_forms/f1"})
    assert read(store, "tickets/t1").version == read(store, "attendance_forms/f1").version  # one commit
    assert outcome(store, "attendance_forms/f1")["state"] == "done"
    assert "timestampValue" in outcome(store, "attendance_forms/f1")["at"]
    found = ticket(store)
    assert found is not None
    assert (found.attendance, found.changes) == (True, 1)


def test_an_event_that_comes_again_or_late_has_no_effect(runner: FormRunner, store: DocumentStore) -> None:
    first = form(store, "f1")
    runner.take(first)
    again = runner.take(first)
    assert again is not None
    assert again.state == "known"
    assert runner.take(read(store, "attendance_forms/f1")) is None
    assert runner.take(Change("attendance_forms/f1", 1, msgspec.Raw(b"null"))) is None
    assert runner.take(read(store, "tickets/t1")) is None
    gone = Change("attendance_forms/gone", 5, first.fields)
    assert runner.take(gone) == Applied("attendance_forms/gone", "known")
    assert changes(store) == 1
    assert (runner.report.done, runner.report.rejected, runner.report.failed) == (1, 0, 0)


def test_forms_that_come_twice_concurrently_and_in_any_order(
    store: DocumentStore, store_uri: str, runner: FormRunner
) -> None:
    events = [form(store, f"f{number}") for number in range(4)] * 2
    random.Random(7).shuffle(events)
    errors: list[BaseException] = []

    def work(some: list[Change]) -> None:
        try:
            with closing(open_store(store_uri)) as own:
                mine = FormRunner(FORMS, own, lambda letter: errors.append(AssertionError(letter.message)))
                for event in some:
                    mine.take(event)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[events[begin::3]]) for begin in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert changes(store) == 4


def test_a_form_that_is_deleted_after_it_was_applied(runner: FormRunner, store: DocumentStore) -> None:
    event = put(store, "users/bob/join_forms/j1", {"name": "Bob"})
    assert [one and one.state for one in (runner.take(event), runner.take(event))] == ["done", "known"]
    assert read(store, "users/bob/join_forms/j1").is_deleted
    assert ticket(store, "of-bob") is not None


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"ticket": "t9"}, "there is no such ticket", "ticket"),
        ({"user": "bob"}, "that is not your ticket", None),
        ({"attends": "yes"}, r"Expected `bool`, got `str`", None),
        ({"ticket": "meetings/m1"}, "expected a reference into 'tickets'", None),
    ],
)
def test_a_rejected_form_gets_its_error_and_has_no_effect(
    runner: FormRunner, store: DocumentStore, fields: Any, error: str, field: str | None
) -> None:
    event = form(store, "f1", **fields)
    applied = runner.take(event)
    assert applied is not None
    assert applied.state == "rejected"
    found = outcome(store, "attendance_forms/f1")
    assert (found["state"], found["field"]) == ("rejected", field)
    assert error in found["error"]
    assert "timestampValue" in found["at"]
    again = runner.take(event)
    assert again is None or again.state == "known"
    assert changes(store) == 0


def test_what_a_form_writes_must_fit(runner: FormRunner, store: DocumentStore) -> None:
    put(store, "tickets/t1", {"user": "misfit"})
    runner.take(form(store, "f1", user="misfit"))
    assert "expected values that fit their fields" in outcome(store, "attendance_forms/f1")["error"]
    with bb.transaction(store) as tx:
        tx.create(Ticket(user="bob"), "of-bob")
    put(store, "users/bob/join_forms/j1", {"name": "Bob"})
    runner.take(read(store, "users/bob/join_forms/j1"))
    assert outcome(store, "users/bob/join_forms/j1")["state"] == "rejected"


def test_a_mistake_in_the_code_is_a_dead_letter_and_the_form_stays(
    runner: FormRunner, store: DocumentStore, letters: list[DeadLetter]
) -> None:
    put(store, "tickets/t1", {"user": "broken"})
    event = form(store, "f1", user="broken")
    assert runner.take(event) is None
    (letter,) = letters
    assert (letter.stage, letter.code, letter.path) == ("form", "form_failed", "attendance_forms/f1")
    assert "AttendanceForm.apply raised KeyError" in letter.message
    assert (outcome(store, "attendance_forms/f1"), changes(store), runner.report.failed) == (None, 0, 1)
    with pytest.raises(KeyError):  # an event of a function is delivered again
        runner.take_path("attendance_forms/f1")
    put(store, "tickets/t1", {"user": 7})  # an invalid document is not the mistake of the form
    form(store, "f2")
    assert runner.take(read(store, "attendance_forms/f2")) is None
    assert "tickets" in letters[-1].message or "Ticket" in letters[-1].message
    assert outcome(store, "attendance_forms/f2") is None


def test_forms_are_followed_beside_other_work(store: DocumentStore, store_uri: str, letters: list[DeadLetter]) -> None:
    with bb.transaction(store) as tx:
        tx.create(Ticket(user="ann"), "t1")
    form(store, "f1")
    source = open_source(store_uri).following()
    with applying_forms(FORMS, source, store_uri, letters.append) as report:
        wait_until(lambda: report.done == 1, "the first form")
        form(store, "f2", attends=False)
        form(store, "f3", user="bob")
        wait_until(lambda: (report.done, report.rejected) == (2, 1), "the others")
    assert letters == []
    found = ticket(store)
    assert found is not None
    assert (found.changes, found.attendance) == (2, False)
    again = follow_forms(FORMS, open_source(store_uri), store, refuse=letters.append)
    assert (again.done, again.rejected, again.failed) == (0, 0, 0)


def test_what_stops_the_thread_is_raised(tmp_path: Any) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    source = open_source(f"documents:{tmp_path}/text").following()
    with (
        pytest.raises(bb.UsageError, match="expected a file of documents"),
        applying_forms(FORMS, source, f"documents:{tmp_path}/x.db", pytest.fail),
    ):
        pass


def test_the_declaration() -> None:
    with pytest.raises(bb.UsageError, match=r"WrongForm: expected after='mark' or 'delete', got 'burn'"):

        class WrongForm(bb.Form, collection="wrong", after="burn"):  # type: ignore[call-arg]
            x: int

    class Bare(bb.Form, collection="bare"):
        x: int

    with pytest.raises(NotImplementedError, match="fix: write it"):
        Bare(x=1).apply(None)  # type: ignore[arg-type]
    with pytest.raises(bb.UsageError, match="expected a collection"):
        FormRunner([bb.Form], open_store("documents:x.db"), pytest.fail)
    assert Ref("attendance_forms/f1") == Ref(
        AttendanceForm(path="attendance_forms/f1", user="ann", ticket=Ref("tickets/t1"), attends=True).path
    )
