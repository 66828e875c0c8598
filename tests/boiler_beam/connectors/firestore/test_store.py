"""Transactions on Firestore whose calls break: what is written once, what is repeated, what nobody can know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.connectors.firestore.store import FirestoreStore
from boiler_beam.errors import UnknownOutcome
from boiler_beam.writing import FormRunner
from tests.helpers.faults import Call, Fault, Proxy
from tests.helpers.form_classes import AttendanceForm, Ticket


@pytest.fixture
def proxy(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(firestore_emulator) as found:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", found.address)
        yield found


@pytest.fixture
def store(proxy: Proxy, project: str) -> Iterator[FirestoreStore]:
    with closing(FirestoreStore(project, sleep=lambda seconds: None)) as found:
        with bb.transaction(found) as tx:
            tx.create(Ticket(user="ann"), "t1")
        proxy.calls.clear()
        yield found


def change(tx: bb.Transaction) -> None:
    ticket = tx.get(Ticket, "t1")
    assert ticket is not None
    ticket.changes += 1


def changes(store: FirestoreStore, proxy: Proxy) -> int:
    proxy.policy = lambda call: None
    with bb.transaction(store) as tx:
        ticket = tx.get(Ticket, "t1")
    assert ticket is not None
    return ticket.changes


def first(method: str, fault: Fault) -> object:
    """A policy that does something to the first call of a method."""
    left = [fault]
    return lambda call: left.pop() if call.method == method and left else None


def run(store: FirestoreStore) -> dict[str, int]:
    return bb.run_transaction(change, store, sleep=lambda seconds: None)[1]


@pytest.mark.parametrize("method", ["BeginTransaction", "Commit"])
def test_a_call_that_did_not_arrive_is_repeated(method: str, store: FirestoreStore, proxy: Proxy) -> None:
    proxy.policy = first(method, Fault(grpc.StatusCode.UNAVAILABLE))  # type: ignore[assignment]
    assert run(store).keys() == {"tickets/t1"}
    assert proxy.calls[method] >= 2
    assert changes(store, proxy) == 1


def test_a_conflict_is_repeated_as_a_new_transaction(store: FirestoreStore, proxy: Proxy) -> None:
    proxy.policy = first("Commit", Fault(grpc.StatusCode.ABORTED, details="contention"))  # type: ignore[assignment]
    assert run(store).keys() == {"tickets/t1"}
    assert proxy.calls["BeginTransaction"] == 2
    assert changes(store, proxy) == 1
    proxy.policy = lambda call: Fault(grpc.StatusCode.ABORTED) if call.method == "Commit" else None
    with pytest.raises(bb.Conflict):
        bb.run_transaction(change, store, retries=2, sleep=lambda seconds: None)
    assert changes(store, proxy) == 1


def test_a_commit_whose_answer_is_lost_is_never_made_twice(store: FirestoreStore, proxy: Proxy) -> None:
    """The repeated commit is refused, because the transaction is over; the function does not run again."""
    proxy.policy = first("Commit", Fault(grpc.StatusCode.UNAVAILABLE, is_done=True))  # type: ignore[assignment]
    with pytest.raises(
        bb.BoilerBeamError, match="it is unknown whether it was applied; fix: read the documents"
    ) as found:
        run(store)
    assert not isinstance(found.value, bb.Conflict)
    assert proxy.calls["BeginTransaction"] == 1
    assert changes(store, proxy) == 1


def test_a_store_that_is_gone_for_long_is_an_error(store: FirestoreStore, proxy: Proxy) -> None:
    proxy.policy = lambda call: Fault(grpc.StatusCode.UNAVAILABLE) if call.method == "Commit" else None
    with pytest.raises(UnknownOutcome, match="it is unknown whether it was applied"):
        run(store)
    assert changes(store, proxy) == 0


def test_a_form_whose_answer_is_lost_has_its_effect_once(store: FirestoreStore, proxy: Proxy) -> None:
    with bb.transaction(store) as tx:
        tx.create(AttendanceForm(user="ann", ticket=Ref("tickets/t1"), attends=True), "f1")
    runner = FormRunner([AttendanceForm], store, lambda letter: pytest.fail(letter.message), sleep=lambda seconds: None)
    proxy.policy = first("Commit", Fault(grpc.StatusCode.UNAVAILABLE, is_done=True))  # type: ignore[assignment]
    applied = runner.take_path("attendance_forms/f1")
    assert applied is not None
    assert applied.state == "known"  # it was applied, and looked at again
    again = runner.take_path("attendance_forms/f1")  # the event comes again
    assert again is not None
    assert again.state == "known"
    assert changes(store, proxy) == 1


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, bb.UsageError, "grant the role roles/datastore.user"),
        (grpc.StatusCode.INVALID_ARGUMENT, bb.BoilerBeamError, "expected to commit, got INVALID_ARGUMENT"),
    ],
)
def test_what_the_server_refuses_is_said(
    code: grpc.StatusCode, kind: type[Exception], text: str, store: FirestoreStore, proxy: Proxy
) -> None:
    def policy(call: Call) -> Fault | None:
        return Fault(code) if call.method == "Commit" else None

    proxy.policy = policy
    with pytest.raises(kind, match=text):
        run(store)
    assert changes(store, proxy) == 0
