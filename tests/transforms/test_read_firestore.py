"""Firestore in pipelines: as a user reads it, and under views."""

from __future__ import annotations

import json
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import registry
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from boiler_beam.beam.elements import ElementCoder
from boiler_beam.connectors.firestore import read
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.errors import UsageError
from boiler_beam.events import Change
from boiler_beam.values import Ref
from tests.helpers.firestore import put
from transforms import ReadFromFirestore

pytestmark = pytest.mark.beam


def plain(change: Change) -> tuple[str, int, Any]:
    return change.path, change.version, json.loads(bytes(change.fields))


def test_collections_at_one_time(firestore_emulator: str, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "FIRST_RANGE", 10)
    client = Client(project)
    documents = {f"users/u{number}": {"n": number} for number in range(40)} | {"rooms/r/messages/m": {"n": 1}}
    documents["orgs/x/users/u"] = {"n": 3}
    versions = put(client, documents)
    put(client, {"users/u1": None, "users/u2": {"n": 7}})
    client.close()
    expected = [
        (path, version, fields)
        for (path, fields), version in zip(documents.items(), versions, strict=True)
        if not path.startswith("orgs/")
    ]
    pipeline = beam.Pipeline(runner=FnApiRunner())
    changes = pipeline | ReadFromFirestore(
        project, collections=["users", "rooms/{room}/messages"], read_time=max(versions)
    )
    assert_that(changes | beam.Reshuffle() | beam.Map(plain), equal_to(expected))
    result = pipeline.run()
    result.wait_until_finish()
    reads = result.metrics().query(beam.metrics.MetricsFilter().with_name("reads"))["counters"]
    assert (
        sum(one.committed for one in reads) == 41 + 3 + 1
    )  # documents; single names of users, behind 10, 30 and all; of messages


def test_some_fields_of_some_documents(firestore_emulator: str, project: str) -> None:
    client = Client(project)
    put(client, {f"users/u{n}": {"n": n, "boss": {"referenceValue": "users/u1"}} for n in range(4)})
    client.close()
    where = [("boss", "==", Ref("users/u1")), ("n", ">", 1)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        changes = pipeline | ReadFromFirestore(project, collections=["users"], select=["n"], where=where)
        fields = changes | beam.Map(lambda change: json.loads(bytes(change.fields)))
        assert_that(fields, equal_to([{"n": 2}, {"n": 3}]))


def test_fields_by_their_stored_names(firestore_emulator: str, project: str) -> None:
    client = Client(project)
    documents = {f"users/u{n}": {"first.name": f"n{n}", "24h": n, "a": {"b-c": n}, "more": 1} for n in range(4)}
    put(client, documents)
    client.close()
    where = [("first.name", "in", ["n1", "n2"]), (("a", "b-c"), "==", 2)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        given = ["first.name", "24h", ("a", "b-c")]
        changes = pipeline | ReadFromFirestore(project, collections=["users"], select=given, where=where)
        fields = changes | beam.Map(lambda change: json.loads(bytes(change.fields)))
        assert_that(fields, equal_to([{"first.name": "n2", "24h": 2, "a": {"b-c": 2}}]))


def test_mistakes_are_told_before_it_runs() -> None:
    with pytest.raises(UsageError, match=r"'': expected a field's stored name"):
        ReadFromFirestore("a-project", collections=["users"], select=[""])
    with pytest.raises(UsageError, match="expected firestore:PROJECT"):
        ReadFromFirestore("A PROJECT", collections=["users"])
    with pytest.raises(UsageError, match="got 2 segments"):
        ReadFromFirestore("a-project", collections=["users/u1"])
    with pytest.raises(UsageError, match="got '~'"):
        ReadFromFirestore("a-project", collections=["users"], where=[("n", "~", 1)])


def test_changes_travel_as_bytes_of_ours() -> None:
    assert isinstance(registry.get_coder(Change), ElementCoder)
