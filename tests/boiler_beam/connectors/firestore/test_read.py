"""Reading Firestore: exactly the requested documents, as of one time, also over broken connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import grpc
import msgspec
import pytest

from boiler_beam.compare import path_key
from boiler_beam.connectors import open_source
from boiler_beam.connectors.firestore import client as client_module
from boiler_beam.connectors.firestore import read
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.protos import METHODS, PartitionQueryRequest
from boiler_beam.connectors.firestore.query import queries_of
from boiler_beam.connectors.firestore.read import check_read_time
from boiler_beam.connectors.firestore.source import FirestoreSource
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, Complete
from boiler_beam.values import Ref
from tests.helpers.faults import Call as FaultyCall
from tests.helpers.faults import Fault, Proxy
from tests.helpers.firestore import put
from tests.helpers.proxy import Call, GrpcProxy, TcpProxy

HOUR = 3600 * 10**6


@pytest.fixture
def client(firestore_emulator: str, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


def source_of(client: Client, *collections: str) -> FirestoreSource:
    source = open_source(client.uri)
    assert isinstance(source, FirestoreSource)
    source.prepare(collections)
    return source


def paths(source: FirestoreSource) -> list[str]:
    return [change.path for split in source.splits() for change in open_source(source.uri).read(split)]


def test_collections_subcollections_and_groups(client: Client) -> None:
    """Documents below a missing ancestor (orgs/x, a/b) are read."""
    some = ["users/u1", "orgs/x/users/u2", "rooms/r/messages/m1", "a/b/rooms/r/messages/m2", "old/o/messages/m3"]
    versions = dict(zip(some, put(client, {path: {"at": path} for path in some}), strict=True))
    assert paths(source_of(client, "users")) == ["users/u1"]
    assert sorted(paths(source_of(client, "**/users"))) == ["orgs/x/users/u2", "users/u1"]
    assert paths(source_of(client, "rooms/{room}/messages")) == ["rooms/r/messages/m1"]
    both = source_of(client, "users", "orgs/{org}/users", "old/{old}/messages")
    assert sorted(paths(both)) == ["old/o/messages/m3", "orgs/x/users/u2", "users/u1"]
    for change in source_of(client, "**/messages").read_all():
        assert change == Change(change.path, versions[change.path], change.fields)
        assert json.loads(bytes(change.fields)) == {"at": change.path}


def test_unprepared_it_reads_all_top_level_collections(client: Client) -> None:
    put(client, {"users/u1": {}, "orders/o1": {}, "orders/o1/lines/l1": {}})
    source = open_source(client.uri)
    assert sorted(change.path for change in source.read_all()) == ["orders/o1", "users/u1"]


def test_no_documents(client: Client) -> None:
    source = source_of(client, "users", "**/lines")
    *_, (events, position) = source.follow(None)
    assert [type(event) for event in events] == [Complete, Complete]
    assert list(source.follow(position)) == []
    assert paths(source) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_a_flat_collection_is_read_alone_and_its_documents_are_billed_once(
    client: Client, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "FIRST_RANGE", 10)
    put(client, {f"{place}users/u{number}": {} for place in ("", "orgs/x/", "orgs/y/") for number in range(100)})
    source = source_of(client, "users")
    source.threads = threads
    assert sorted(change.path for change in source.read_all()) == sorted(f"users/u{number}" for number in range(100))
    time_and_probes = 1 + (4 if threads > 1 else 0)  # at 10, 30, 70, and one behind all
    assert source.billed.reads == 100 + time_and_probes


def partitioned(cursors: list[str], client: Client, asked: list[PartitionQueryRequest]) -> GrpcProxy:
    """A server with partitions, two in each page."""
    proxy = GrpcProxy(client.emulator)

    def rule(call: Call) -> list[bytes] | None:
        if call.method != "PartitionQuery":
            return None
        request = PartitionQueryRequest.FromString(next(call.requests))
        asked.append(request)
        begin = int(request.page_token or 0)
        answer = METHODS["PartitionQuery"][2](next_page_token=str(begin + 2) if begin + 2 < len(cursors) else "")
        for path in cursors[begin : begin + 2]:
            answer.partitions.add().values.add().reference_value = client.root + path
        return [answer.SerializeToString()]

    proxy.rule = rule
    return proxy


def test_partitions_are_ranges_of_names_of_the_plain_query(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition of `users` neither reads nor bills `orgs/x/users`."""
    documents = {f"{place}users/u{number}": {} for place in ("", "orgs/x/", "zoos/z/") for number in range(9)}
    put(client, documents)
    asked: list[PartitionQueryRequest] = []
    cursors = ["users/u7", "orgs/x/users/u2", "orgs/x/users/u7", "zoos/z/users/u1", "users/u3"]
    with partitioned(cursors, client, asked) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        source = source_of(client, "users")
        spans = [(part.begin, part.end) for part in source.parts()]
        assert spans == [("", "users/u3"), ("users/u3", "users/u7"), ("users/u7", "")]
        assert asked[0].structured_query.from_[0].all_descendants
        assert asked[0].partition_count == 63
        assert asked[0].HasField("read_time")
        assert paths(source) == [f"users/u{number}" for number in range(9)]
        source.threads, source.billed.reads = 2, 0
        assert sorted(change.path for change in source.read_all()) == [f"users/u{number}" for number in range(9)]
        assert source.billed.reads == 9 + 3  # documents, and pages of partitions; the time is known already
        group = source_of(client, "**/users")
        assert len(group.parts()) == 6
        assert sorted(paths(group)) == sorted(documents)
        group.client.close()
        source.client.close()


def test_names_are_ordered_as_firestore_orders_them(client: Client) -> None:
    some = ["__id9__", "__id10__", "a", "B", "\U0001f600", "\ufffd", "ä", "a\x01", "aa"]
    written = [f"users/{name}" for name in some if not name.startswith("__")]
    put(client, {path: {} for path in written})
    assert [change.path for change in source_of(client, "users").read_all()] == sorted(written, key=path_key)
    assert sorted(some, key=path_key)[:2] == ["__id9__", "__id10__"]
    assert sorted(["a/b/c/d", "a/b!/c/d"], key=path_key) == ["a/b/c/d", "a/b!/c/d"]


def test_selected_fields_and_filters(client: Client) -> None:
    ages = {f"users/u{number}": {"age": number, "boss": {"referenceValue": "users/u1"}} for number in range(30)}
    put(client, ages | {"users/none": {"age": None}, "users/nan": {"age": {"doubleValue": "NaN"}}})
    source = source_of(client, "users")
    source.select, source.where = ["age"], [("age", ">=", 7), ("boss", "==", Ref("users/u1"))]
    found = {change.path: json.loads(bytes(change.fields)) for change in source.read_all()}
    assert found == {f"users/u{number}": {"age": number} for number in range(7, 30)}
    *_, (events, _) = source.follow(None)
    assert events == []  # some documents are not all of them
    assert [one.path for one in source.query("users", [("age", "==", None)])] == ["users/none"]
    assert [one.path for one in source.query("users", [("age", "==", float("nan"))])] == ["users/nan"]
    assert len(list(source.query("users", [("boss", "==", Ref("users/u1"))]))) == 30
    with pytest.raises(UsageError, match=r"where 'age': expected one of < <= .*, got '~'"):
        list(source.query("users", [("age", "~", 1)]))
    with pytest.raises(UsageError, match=r"'users/u1': expected a collection \(.*\), got 2 segments, which names a"):
        source_of(client, "users/u1").splits()


ODD_NAMES = [
    "a.b", "my-item", "24h", "first name", "größe", "日本", "`", "a`b", "\\", "a\\", 'size "in"', "it's", "a\nb", "\t", "[0]",
    "_", "*", "a/b", "~", "a,b", "$", "x" * 300, ".", "..", "a.", ".b", "`a.b`", "😀",
]  # fmt: skip


def test_fields_are_named_as_they_are_stored(client: Client) -> None:
    put(client, {f"odd/o{place}": {name: place, "a": {"b": 7}} for place, name in enumerate(ODD_NAMES)})
    for place, name in enumerate(ODD_NAMES):
        source = source_of(client, "odd")
        source.select, source.where = [name], [(name, "==", place)]
        found = {change.path: json.loads(bytes(change.fields)) for change in source.read_all()}
        assert found == {f"odd/o{place}": {name: place}}, name
        assert [one.path for one in source.query("odd", [(name, ">=", place)])] == [f"odd/o{place}"]


def test_a_field_within_maps_is_a_tuple_of_names(client: Client) -> None:
    put(client, {"odd/1": {"a.b": {"c": {"24h": 1}, "d": 2}, "a": {"b": {"c": {"24h": 2}}}}, "odd/2": {"a.b": 1}})
    source = source_of(client, "odd")
    source.select, source.where = [("a.b", "c", "24h"), ("a", "b")], [(("a.b", "c", "24h"), "==", 1)]
    (change,) = source.read_all()
    assert json.loads(bytes(change.fields)) == {"a.b": {"c": {"24h": 1}}, "a": {"b": {"c": {"24h": 2}}}}
    assert [one.path for one in source.query("odd", [(("a", "b", "c", "24h"), "==", 2)])] == ["odd/1"]
    for wrong in ("", (), ("a", ""), 7):
        with pytest.raises(UsageError, match=r"expected a field's stored name, or a tuple of names; fix: write "):
            queries_of(["odd"], [wrong])  # type: ignore[list-item]


def test_one_subcollection_or_all_of_a_pattern(client: Client) -> None:
    put(
        client,
        {
            f"{place}/messages/{number}": {"n": number}
            for place in ("rooms/r", "rooms/s", "old/r")
            for number in range(3)
        },
    )
    source, where = source_of(client), [("n", ">=", 1)]
    assert [one.path for one in source.query("rooms/r/messages", where)] == ["rooms/r/messages/1", "rooms/r/messages/2"]
    assert source.billed.reads == 2
    assert len(list(source.query("rooms/{room}/messages", where))) == 4
    assert len(list(source.query("**/messages", where))) == 6
    assert len(list(source.query("messages", where))) == 0
    assert len(list(source.query("rooms/r/messages", [("n", "in", [0, 2])]))) == 2


def test_documents_by_their_paths(client: Client) -> None:
    versions = put(client, {f"users/u{number:04}": {"n": number} for number in range(700)})
    source = source_of(client)
    asked = [f"users/u{number:04}" for number in range(701)]
    found = {change.path: change for change in source.get([*asked, "users/u0000"])}
    assert sorted(found) == asked
    assert [found[path].version for path in asked[:700]] == versions
    assert found["users/u0700"].is_deleted
    assert found["users/u0700"].version >= versions[-1]
    assert source.billed.reads == 701
    put(client, {"users/u0000": None})
    (gone,) = source.get(["users/u0000"])
    (stood,) = source.get(["users/u0000"], read_time=versions[-1])
    assert (gone.is_deleted, stood.version) == (True, versions[0])


def test_all_parts_are_one_snapshot(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that are changed, created and deleted during the read are read as of its time."""
    monkeypatch.setattr(read, "FIRST_RANGE", 10)
    put(client, {f"users/u{number:02}": {"round": 0} for number in range(80)})
    source = source_of(client, "users")
    splits = source.splits()
    assert len(splits) == 4
    is_over = threading.Event()

    def write() -> None:
        for number in count(1):
            put(client, {f"users/u{place:02}": {"round": number} for place in range(80)} | {f"users/x{number}": {}})
            put(client, {"users/u40": None})
            if is_over.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        put(client, {"users/u50": None, "users/y": {}})
        found = {change.path: json.loads(bytes(change.fields)) for split in splits for change in source.read(split)}
    finally:
        is_over.set()
        writer.join()
    assert found == {f"users/u{number:02}": {"round": 0} for number in range(80)}
    late = source_of(client, "users")
    late.read_time = msgspec.json.decode(splits[0])["read_time"]
    assert len(list(late.read_all())) == 80


@pytest.mark.parametrize("where", [(), (("n", ">=", 0),)], ids=["by name", "by a field"])
def test_a_broken_stream_goes_on_after_the_last_document(
    client: Client, monkeypatch: pytest.MonkeyPatch, where: tuple[tuple[str, str, int], ...]
) -> None:
    text = "x" * 4000
    put(client, {f"users/u{number:04}": {"n": number, "text": text} for number in range(2000)})
    with TcpProxy(client.emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        source = source_of(client, "users")
        source.where = where
        proxy.cut_at = [2_000_000, 5_000_000]
        found = [change.path for change in source.read_all()]
        source.client.close()
    assert proxy.connections == 3
    assert found == [f"users/u{number:04}" for number in range(2000)]
    assert source.billed.reads < 2010


def test_what_does_not_pass_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with GrpcProxy(client.emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        source = source_of(client, "users")
        slept: list[float] = []
        source.reader._sleep = slept.append
        source.read_time = source.reader.now()
        proxy.rule = lambda call: grpc.StatusCode.UNAVAILABLE if call.number < 5 else grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(UsageError, match=r"expected to read users, got PERMISSION_DENIED: .*; fix: grant the role"):
            list(source.read_all())
        assert [0.05 * 2**number <= seconds <= 0.1 * 2**number for number, seconds in enumerate(slept)] == [True] * 5
        proxy.rule = lambda call: grpc.StatusCode.DATA_LOSS
        with pytest.raises(BoilerBeamError, match=r"expected to read documents, got DATA_LOSS"):
            list(source.get(["users/u1"]))
        source.client.close()


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (-120 * 10**6, r"got one that is 120 s in the future; fix: write a past time"),
        (8 * 24 * HOUR, r"got one of 8\.0 days ago; fix: write a later one"),
        (2 * HOUR + 1, r"2\.0 hours ago; fix: write a whole minute, such as 1799992740000000"),
    ],
)
def test_a_time_at_which_nothing_can_be_read(age: int, said: str) -> None:
    now = 1_800_000_000_000_000
    with pytest.raises(UsageError, match=said):
        check_read_time("firestore:p", now - age, now)


@pytest.mark.parametrize("age", [0, -1000, HOUR, HOUR - 1, 2 * HOUR, 7 * 24 * HOUR])
def test_a_time_that_can_be_read(age: int) -> None:
    check_read_time("firestore:p", 1_800_000_000_000_000 - age, 1_800_000_000_000_000)


def test_the_server_refuses_a_time(client: Client) -> None:
    put(client, {"users/u1": {}})
    source = source_of(client, "users")
    query = queries_of(["users"])[0]
    with pytest.raises(UsageError, match=r"got 1000000, which the server refuses: .*; fix: write such a time"):
        list(source.reader.read(query, 10**6))
    source.read_time = 10**6
    with pytest.raises(UsageError, match=r"expected --read_time to be a time within the last hour, .* days ago"):
        source.splits()


def test_documents_of_a_mebibyte(client: Client) -> None:
    large = {"text": "x" * (1_048_576 - 100)}
    for number in range(20):
        put(client, {f"files/f{number:02}": large})
    found = [(len(batch), position) for batch, position in source_of(client, "files").follow(None)]
    assert found == [(9, ""), (9, ""), (2, ""), (1, "read")]


def _resident() -> int:
    """Returns the memory of this process in MiB."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS:")]
    return int(line.split()[1]) >> 10


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at memory as Linux shows it")
def test_many_documents_in_flat_memory(client: Client) -> None:
    put(client, ((f"users/u{number:06}", {"n": number, "text": "x" * 400}) for number in range(50_000)))
    source = source_of(client, "users")
    held = [_resident() for number, _ in enumerate(source.read_all(), 1) if number % 5_000 == 0]
    assert len(held) == 10
    assert max(held) - held[0] < 16, f"MiB after each 5,000 documents: {held}"
    assert len(source.splits()) == 3
    assert len(set(paths(source))) == 50_000


def test_a_call_that_the_server_never_answers_is_repeated(
    firestore_emulator: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CALL_SECONDS", 1.0)
    monkeypatch.setitem(client_module._SECONDS, "RunQuery", 1.0)
    is_over = threading.Event()

    def never(call: FaultyCall) -> Fault | None:
        return None if call.number else Fault(grpc.StatusCode.UNAVAILABLE, before=is_over.wait)

    with Proxy(firestore_emulator, never) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        source = open_source(f"firestore:{project}")
        assert isinstance(source, FirestoreSource)
        try:
            put(source.client, {"users/u1": {"name": "Ann"}})
            source.prepare(["users"])
            assert [change.path for change in source.read_all()] == ["users/u1"]
            assert [change.path for change in source.get(["users/u1"])] == ["users/u1"]
        finally:
            is_over.set()
            source.client.close()
    assert proxy.calls["RunQuery"] > 1
    assert proxy.calls["BatchGetDocuments"] > 1
