"""Transactions on both stores: only what changed is written, all or nothing, never over what was not read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.connectors import DocumentStore, open_store
from boiler_beam.connectors.stores import Precondition, Write
from boiler_beam.models import DocumentType
from boiler_beam.writing import MAX_RETRIES

ROOT = Path(__file__).resolve().parents[3]


class Address(bb.Struct):
    city: str
    zip_code: str = ""


class Person(bb.DomainModel, collection="people"):
    first_name: str
    visits: int = 0
    tags: list[str] = bb.field(default_factory=list)
    address: Address | None = None
    home: Address = bb.field(default_factory=lambda: Address("nowhere", "0"))
    seen_at: datetime | None = None
    friend: Ref[Person] | None = None
    kind: str = bb.field(name="class", was=("type",), default="")

    @property
    def shout(self) -> str:
        return self.first_name.upper()


class Guest(Person):
    badge: str = ""


class Note(bb.DomainModel, collection="people/{person}/notes"):
    text: str


def put(store: DocumentStore, path: str, fields: dict[str, Any]) -> int:
    with closing(store.begin()) as attempt:
        return attempt.commit([Write(path, fields, precondition=Precondition())])[path]


def stored(store: DocumentStore, path: str) -> Any:
    with closing(store.begin()) as attempt:
        (found,) = attempt.get([path])
        return None if found.is_deleted else msgspec.json.decode(bytes(found.fields))


def test_documents_are_created_read_changed_and_deleted(store: DocumentStore) -> None:
    with bb.transaction(store) as tx:
        ann = tx.create(Person(first_name="Ann", friend=Ref("people/bob"), address=Address("Rome")), "ann")
        assert (ann.doc_id, ann.shout, isinstance(ann, Person)) == ("ann", "ANN", True)
        other = tx.create(Person(first_name="Bob"))
        tx.create(Note(path="people/ann/notes/n1", text="hello"))
    assert set(tx.versions) == {"people/ann", other.path, "people/ann/notes/n1"}
    assert len(other.doc_id) == 20
    assert min(tx.versions.values()) > 1_600_000_000_000_000
    with bb.transaction(store) as tx:
        again = tx.get(Person, "ann")
        assert again is not None
        assert again is tx.get(Person, Ref("people/ann"))
        assert (again.version, again.friend) == (max(tx.versions.values(), default=again.version), Ref("people/bob"))
        note = tx.get(Note, "people/ann/notes/n1")
        assert note is not None
        assert tx.get(Person, "nobody") is None
        tx.delete(note)
        again.first_name = "Anna"
    assert set(tx.versions) == {"people/ann", "people/ann/notes/n1"}
    assert stored(store, "people/ann/notes/n1") is None
    assert stored(store, "people/ann")["firstName"] == "Anna"


def test_only_what_changed_is_written(store: DocumentStore) -> None:
    put(store, "people/ann", {
        "firstName": "Ann", "unknown": {"x": 1}, "address": {"city": "Rome", "zipCode": "1", "floor": 3}, "type": "old", "tags": ["a"],
    })  # fmt: skip
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        assert ann.address is not None
        assert ann.kind == "old"
        put(store, "people/other", {"firstName": "Other"})  # not read: no conflict
        ann.address.city = "Bern"
        ann.tags.append("b")
        (write,) = tx.writes()
        assert (write.mask, write.precondition.version) == ([("tags",), ("address", "city")], ann.version)
    assert stored(store, "people/ann") == {
        "firstName": "Ann", "unknown": {"x": 1}, "address": {"city": "Bern", "zipCode": "1", "floor": 3}, "type": "old", "tags": ["a", "b"],
    }  # fmt: skip
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.kind = "new"  # under its present name
        ann.home.city = "Oslo"  # a map that is not stored is written whole
    assert stored(store, "people/ann")["class"] == "new"
    assert stored(store, "people/ann")["home"] == {"city": "Oslo", "zipCode": "0"}
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.first_name = "Ann"
    assert tx.versions == {}


def test_values_that_the_store_computes(store: DocumentStore) -> None:
    put(
        store, "people/ann", {"firstName": "Ann", "visits": 2, "tags": ["a"], "address": {"city": "Rome"}, "class": "x"}
    )
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.visits = bb.increment(3)
        ann.tags = bb.array_union("a", "b")
        ann.seen_at = bb.SERVER_TIME
        ann.kind = bb.DELETE_FIELD
        created = tx.create(Person(first_name="New", seen_at=bb.SERVER_TIME, visits=bb.increment(1)), "new")
    with bb.transaction(store) as after:
        ann, new = after.get(Person, "ann"), after.get(Person, created.path)
    assert ann is not None
    assert new is not None
    assert (ann.visits, ann.tags, ann.kind) == (5, ["a", "b"], "")
    assert "class" not in stored(store, "people/ann")
    assert ann.seen_at is not None
    micros = (ann.seen_at - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds() * 1e6
    assert (
        abs(micros - tx.versions["people/ann"]) < 60_000_000
    )  # Firestore: the request's time, rounded to milliseconds
    assert (new.seen_at is not None, new.visits) == (True, 1)
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.tags = bb.array_remove("a", "zzz")
    assert stored(store, "people/ann")["tags"] == ["b"]


def test_an_increment_does_not_need_the_document_and_conflicts_with_nobody(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann", "visits": 2})

    def visit() -> None:
        with closing(store.begin()) as attempt:
            attempt.commit([Write("people/ann", {}, [], {("visits",): bb.increment(1)})])

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(store, "people/ann") == {"firstName": "Ann", "visits": 10}


def test_a_commit_that_is_refused_at_its_second_document_writes_nothing(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann"})
    with pytest.raises(bb.WriteRefused), bb.transaction(store) as tx:
        tx.create(Person(first_name="New"), "new")
        tx.create(Person(first_name="Other"), "ann")
    assert stored(store, "people/new") is None


def test_documents_that_can_be_assigned_to_are_no_other_models(tmp_path: Path) -> None:
    with bb.transaction(f"documents:{tmp_path}/app.db") as tx:
        person, guest = tx.create(Person(first_name="Ann"), "ann"), tx.create(Guest(first_name="Bob"), "bob")
    mistakes: list[bb.Mistake] = []
    codec = DocumentType(Person, mistakes)
    assert (set(codec.codecs), mistakes) == ({Person, Guest}, [])
    assert [type(one) in codec.codecs for one in (person, guest)] == [False, False]


def test_an_exception_in_the_block_writes_nothing(store: DocumentStore) -> None:
    with pytest.raises(ZeroDivisionError), bb.transaction(store) as tx:
        tx.create(Person(first_name="Ann"), "ann")
        1 / 0  # noqa: B018
    assert stored(store, "people/ann") is None


def test_a_document_that_does_not_fit_is_refused_and_nothing_is_written(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann"})
    with (
        pytest.raises(
            bb.WriteRefused, match=r"people/ann: expected values that fit.*Expected `str`, got `int`.*fix:"
        ) as found,
        bb.transaction(store) as tx,
    ):
        tx.create(Person(first_name="Bob"), "bob")
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.first_name = 7  # type: ignore[assignment]
    assert (found.value.code, found.value.field) == ("invalid_value", "firstName")
    assert stored(store, "people/bob") is None
    with pytest.raises(bb.WriteRefused, match="firstName"), bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.first_name = bb.DELETE_FIELD
    with pytest.raises(bb.WriteRefused, match="Firestore has no type for set"), bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.tags = {"a"}  # type: ignore[assignment]
    with pytest.raises(AttributeError), bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.nonsense = 1  # type: ignore[attr-defined]


def test_what_exists_is_not_created_again(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann"})
    with pytest.raises(bb.WriteRefused) as found, bb.transaction(store) as tx:
        tx.create(Person(first_name="Other"), "ann")
    assert found.value.code == "exists"
    assert stored(store, "people/ann") == {"firstName": "Ann"}
    with bb.transaction(store) as tx:  # what was deleted before is replaced whole
        ann = tx.get(Person, "ann")
        assert ann is not None
        tx.delete(ann)
        tx.create(Guest(first_name="Other", badge="7"), "ann")
    assert stored(store, "people/ann")["obj_type"] == "Guest"
    with bb.transaction(store) as tx:
        guest = tx.get(Person, "ann")
        assert isinstance(guest, Guest)
        tx.create(Person(first_name="Gone"), "gone")
        tx.delete(Ref("people/gone"))
    assert tx.versions == {}


def test_save_writes_the_fields_of_the_class_and_leaves_others(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann", "other": 1, "visits": 9})
    with bb.transaction(store) as tx:
        tx.save(Person(path="people/ann", first_name="Anna"))
        tx.save(Person(path="people/new", first_name="New"))
    assert stored(store, "people/ann")["other"] == 1
    assert (stored(store, "people/ann")["firstName"], stored(store, "people/ann")["visits"]) == ("Anna", 0)
    assert stored(store, "people/new")["firstName"] == "New"


def test_a_newer_version_is_never_written_over(tmp_path: Path) -> None:
    """A block raises `Conflict` (Firestore's emulator locks what is read: there the other write would have to wait)."""
    store = open_store(f"documents:{tmp_path}/app.db")
    put(store, "people/ann", {"firstName": "Ann", "visits": 1})
    with pytest.raises(bb.Conflict, match="people/ann"), bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        put(store, "people/ann", {"firstName": "Ann", "visits": 5})
        ann.visits += 1
    with pytest.raises(bb.Conflict, match="people/bob"), bb.transaction(store) as tx:  # also what was only read
        assert tx.get(Person, "bob") is None
        put(store, "people/bob", {"firstName": "Bob"})
        tx.create(Person(first_name="Carl"), "carl")
    with pytest.raises(bb.Conflict, match="people"), bb.transaction(store) as tx:  # also what a query would find
        assert [one.path for one in tx.query("people", [("visits", "==", 7)])] == []
        put(store, "people/dora", {"firstName": "Dora", "visits": 7})
        tx.create(Person(first_name="Carl"), "carl")
    assert stored(store, "people/carl") is None
    assert stored(store, "people/ann")["visits"] == 5


def test_concurrent_transactions_lose_no_update(store: DocumentStore, store_uri: str) -> None:
    put(store, "people/ann", {"firstName": "Ann", "visits": 0})
    attempts: list[int] = []

    def visit(tx: bb.Transaction) -> None:
        attempts.append(1)
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.visits += 1

    def work() -> None:
        with closing(open_store(store_uri)) as own:
            for _ in range(3):
                bb.run_transaction(visit, own, retries=100)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(store, "people/ann")["visits"] == 9
    assert len(attempts) >= 9


def test_a_transaction_gives_up_after_max_retries(tmp_path: Path) -> None:
    store = open_store(f"documents:{tmp_path}/app.db")
    put(store, "people/ann", {"firstName": "Ann", "visits": 0})
    waits: list[float] = []
    number = 0

    def disturbed(tx: bb.Transaction) -> None:
        nonlocal number
        ann = tx.get(Person, "ann")
        assert ann is not None
        number += 1
        put(store, "people/ann", {"firstName": "Ann", "visits": 100 + number})
        ann.visits = -1

    with pytest.raises(bb.Conflict):
        bb.run_transaction(disturbed, store, sleep=waits.append)
    assert (number, len(waits)) == (MAX_RETRIES + 1, MAX_RETRIES)
    assert stored(store, "people/ann")["visits"] == 100 + number


def test_reads_in_a_transaction_are_of_one_time_and_see_its_own_writes(store: DocumentStore) -> None:
    put(store, "people/ann", {"firstName": "Ann", "visits": 7, "tags": ["x"]})
    put(store, "people/bob", {"firstName": "Bob", "visits": 7})
    with bb.transaction(store) as tx:
        ann = tx.get(Person, "ann")
        assert ann is not None
        ann.visits = 8
        tx.create(Person(first_name="Carl", visits=7), "carl")
        tx.delete(Ref("people/bob"))
        assert {one.path for one in tx.query("people", [("visits", "==", 7)])} == {"people/carl"}
        assert {one.path for one in tx.query("people", [("visits", "in", [7, 8])])} == {"people/ann", "people/carl"}
        assert {one.path for one in tx.query("people", [("tags", "array-contains", "x")])} == {"people/ann"}
        assert tx.get_all(Person, ["ann", "bob", "carl"]).keys() == {"ann", "carl"}


@pytest.mark.parametrize("uri", ["sqlite:rows.db", "jsonl:rows.jsonl", "parquet:rows"])
def test_rows_are_read_only(uri: str) -> None:
    with (
        pytest.raises(bb.UsageError, match=r"expected a store of documents, got rows.*fix: name the store"),
        bb.transaction(uri),
    ):
        pass


def test_the_configured_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOILER_BEAM_STORE", raising=False)
    with pytest.raises(bb.UsageError, match=r"fix: transaction\('documents:PATH'\)"), bb.transaction():
        pass
    (tmp_path / "pyproject.toml").write_text('[tool.boiler_beam]\nstore = "documents:one.db"\n')
    with bb.transaction() as tx:
        tx.create(Person(first_name="Ann"), "ann")
    monkeypatch.setenv("BOILER_BEAM_STORE", "documents:two.db")
    with bb.transaction() as tx:
        assert tx.get(Person, "ann") is None
    assert stored(open_store("documents:one.db"), "people/ann")["firstName"] == "Ann"


KILLED = """
import os, signal, sys
import boiler_beam as bb
from boiler_beam.connectors.documents import store
from tests.boiler_beam.writing.test_transaction import Person

wait = store._put_facts
def killed(*given):
    wait(*given)
    os.kill(os.getpid(), signal.SIGKILL)     # everything is written, nothing is committed
store._put_facts = killed
with bb.transaction(sys.argv[1]) as tx:
    tx.create(Person(first_name="Half"), "half")
    tx.create(Person(first_name="Other"), "other")
"""


def test_a_program_that_is_killed_in_its_commit_writes_nothing(tmp_path: Path) -> None:
    uri = f"documents:{tmp_path}/app.db"
    with bb.transaction(uri) as tx:
        tx.create(Person(first_name="Ann"), "ann")
    done = subprocess.run([sys.executable, "-c", KILLED, uri], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    with bb.transaction(uri) as tx:
        assert tx.get_all(Person, ["ann", "half", "other"]).keys() == {"ann"}
        tx.create(Person(first_name="Later"), "later")
