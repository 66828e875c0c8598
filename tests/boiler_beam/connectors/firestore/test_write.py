"""Writes in full calls: transient failures are repeated, refused writes are reported, the others are applied."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.options import Limits
from boiler_beam.connectors.firestore.protos import (
    METHODS,
    BatchGetDocumentsRequest,
    BatchWriteRequest,
    Write,
)
from boiler_beam.connectors.firestore.throttle import AdaptiveThrottle, RampUp
from boiler_beam.connectors.firestore.write import BatchWriter, Item
from boiler_beam.errors import BoilerBeamError, UsageError
from tests.helpers.faults import Call, Fault, Proxy, statuses

ANSWER = METHODS["BatchWrite"][2]


@pytest.fixture(name="proxy")
def _proxy(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(firestore_emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        yield proxy


@pytest.fixture(name="client")
def _client(proxy: Proxy, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


def item(client: Client, path: str, value: int = 1, **more: object) -> Item:
    write = Write()
    write.update.name = client.root + path
    write.update.fields["v"].integer_value = value
    for name, text in more.items():
        write.update.fields[name].string_value = str(text)
    return Item(path, [write])


def items(client: Client, number: int, value: int = 1) -> list[Item]:
    return [item(client, f"rows/{place}", value) for place in range(number)]


def values(client: Client, paths: list[str]) -> dict[str, int]:
    request = BatchGetDocumentsRequest(database=client.database, documents=[client.root + path for path in paths])
    answers = client.call("BatchGetDocuments", request)
    return {
        client.path_of(one.found.name): one.found.fields["v"].integer_value for one in answers if one.HasField("found")
    }


def standing(client: Client, number: int) -> dict[str, int]:
    return values(client, [f"rows/{place}" for place in range(number)])


def writer(client: Client, **more: object) -> BatchWriter:
    return BatchWriter(client, wait=lambda seconds: None, clock=Clock(), **more)  # type: ignore[arg-type]


class Clock:
    """A clock that advances by 0.1 s at each call, so that waiting times end."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def kinds(writer: BatchWriter, some: list[Item], **more: bool) -> Counter[str]:
    return Counter(outcome.kind for outcome in writer.write(some, **more))  # type: ignore[arg-type]


def test_all_is_written_in_full_calls(client: Client, proxy: Proxy) -> None:
    one = writer(client)
    assert kinds(one, items(client, 1203)) == {"done": 1203}
    assert len(standing(client, 1203)) == 1203
    assert proxy.calls["BatchWrite"] == 3
    assert (one.counts.writes, one.counts.retries) == (1203, 0)


def test_calls_are_no_larger_than_a_server_takes(client: Client, proxy: Proxy) -> None:
    sizes = []
    proxy.policy = lambda call: sizes.append(len(call.request)) if call.method == "BatchWrite" else None
    some = [item(client, f"rows/{place}", text="x" * 1_000_000) for place in range(7)]
    one = writer(client, limits=Limits(size_bytes=2_100_000))
    assert kinds(one, some) == {"done": 7}
    assert len(sizes) == 4
    assert max(sizes) <= 2_100_000
    assert one.counts.bytes >= 7_000_000


def test_what_a_server_finds_too_large_is_halved(client: Client, proxy: Proxy) -> None:
    one = writer(client)
    one.size_bytes = Limits().size_bytes  # the emulator takes less
    assert kinds(one, [item(client, f"rows/{place}", text="x" * 1_000_000) for place in range(8)]) == {"done": 8}
    assert len(standing(client, 8)) == 8


def test_a_document_has_one_write_in_flight_and_the_newest_follows(client: Client, proxy: Proxy) -> None:
    answered, calls = threading.Event(), []

    def policy(call: Call) -> Fault | None:
        if call.method != "BatchWrite":
            return None
        calls.append([write.update.name for write in BatchWriteRequest.FromString(call.request).writes])
        return None if call.number else Fault(before=lambda: answered.wait(30))

    proxy.policy = policy

    def some() -> Iterator[Item]:
        yield from items(client, 500, 1)
        yield item(client, "rows/7", 2)
        yield item(client, "rows/7", 3)
        yield item(client, "rows/8", 2)
        answered.set()

    outcomes = Counter(outcome.kind for outcome in BatchWriter(client).write(some()))
    assert outcomes == {"done": 502, "superseded": 1}
    assert len(calls[0]) == 500
    assert sum(map(len, calls)) == 502
    assert standing(client, 9) == {**{f"rows/{place}": 1 for place in range(7)}, "rows/7": 3, "rows/8": 2}


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE])
def test_writes_that_fail_for_a_while_are_sent_again(client: Client, proxy: Proxy, code: grpc.StatusCode) -> None:
    proxy.policy = statuses(BatchWriteRequest, ANSWER, random.Random(7), 0.1, code)
    one = writer(client)
    assert kinds(one, items(client, 1000)) == {"done": 1000}
    assert len(standing(client, 1000)) == 1000
    assert 50 < one.counts.retries < 250
    assert one.counts.writes == 1000


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("name", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_calls_that_fail_for_a_while_are_sent_again(client: Client, proxy: Proxy, name: str, is_done: bool) -> None:
    fault = Fault(grpc.StatusCode[name], is_done=is_done)
    proxy.policy = lambda call: fault if call.method == "BatchWrite" and call.number < 6 else None
    one = writer(client)
    assert kinds(one, items(client, 900)) == {"done": 900}
    assert len(standing(client, 900)) == 900
    assert one.counts.retries >= 900


@pytest.mark.slow
def test_connections_that_are_cut_lose_nothing(client: Client, proxy: Proxy) -> None:
    cuts = iter([2, 5])

    def some() -> Iterator[Item]:
        next_cut = next(cuts)
        for place, one in enumerate(items(client, 4000)):
            if place // 500 == next_cut:
                proxy.cut()
                next_cut = next(cuts, -1)
            yield one

    assert Counter(outcome.kind for outcome in BatchWriter(client).write(some())) == {"done": 4000}
    assert len(standing(client, 4000)) == 4000


def test_overload_holds_calls_back(client: Client, proxy: Proxy) -> None:
    proxy.policy = lambda call: Fault(grpc.StatusCode.RESOURCE_EXHAUSTED) if call.number < 12 else None
    throttle = AdaptiveThrottle(random.Random(3).random)
    one = writer(client, throttle=throttle)
    assert kinds(one, items(client, 1500)) == {"done": 1500}
    assert one.counts.throttled_seconds > 1


def test_a_budget_is_kept(client: Client, proxy: Proxy) -> None:
    waited: list[float] = []
    clock = Clock()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        clock.now += seconds

    one = BatchWriter(client, Limits(calls=1), ramp_up=RampUp(writers=5), clock=clock, wait=wait)
    assert kinds(one, items(client, 1000)) == {"done": 1000}
    assert proxy.calls["BatchWrite"] == 10
    assert 8 < clock.now < 12
    assert one.counts.throttled_seconds > 5


def test_the_server_may_stay_away_only_so_long(client: Client, proxy: Proxy) -> None:
    proxy.policy = lambda call: Fault(grpc.StatusCode.UNAVAILABLE, details="gone fishing")
    one = writer(client, limits=Limits(retry_seconds=3))
    with pytest.raises(BoilerBeamError, match=r"within 3 s, got UNAVAILABLE: gone fishing; fix"):
        kinds(one, items(client, 3))


def test_a_bad_write_is_told_alone(client: Client, proxy: Proxy) -> None:
    some = items(client, 100)
    some[17] = item(client, "rows/17", **{"": "no name"})
    some[64] = item(client, "rows/64", text="x" * (1 << 20))
    refused = {}
    for outcome in writer(client).write(some):
        if outcome.kind == "refused":
            refused[outcome.item.key] = outcome.reason
    assert refused.keys() == {"rows/17", "rows/64"}
    assert refused["rows/17"].startswith("INVALID_ARGUMENT: ")
    assert len(standing(client, 100)) == 98
    assert proxy.calls["BatchWrite"] <= 2 * 2 * 7 + 1


def test_wrong_use_ends_it(client: Client, proxy: Proxy) -> None:
    proxy.policy = lambda call: Fault(grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(UsageError, match=r"roles/datastore.user"):
        kinds(writer(client), items(client, 3))


def test_what_a_commit_holds_stands_or_falls_together(client: Client, proxy: Proxy) -> None:
    taken = item(client, "rows/1", 9)
    assert kinds(writer(client), [taken]) == {"done": 1}

    def pair(one: str, two: str) -> Item:
        writes = [item(client, path, 5).writes[0] for path in (one, two)]
        for write in writes:
            write.current_document.exists = False
        return Item(one, writes)

    one = writer(client)
    outcomes = list(one.write([pair("rows/0", "rows/1"), pair("rows/2", "rows/3")], is_atomic=True, most=1))
    assert {outcome.item.key: outcome.kind for outcome in outcomes} == {"rows/0": "conflict", "rows/2": "done"}
    assert standing(client, 4) == {"rows/1": 9, "rows/2": 5, "rows/3": 5}
    assert one.counts.conflicts == 1


def test_the_bad_one_of_many_in_a_commit_is_told_alone(client: Client, proxy: Proxy) -> None:
    some = items(client, 40)
    some[11] = item(client, "rows/11", **{"": "no name"})
    outcomes = kinds(writer(client), some, is_atomic=True)
    assert outcomes == {"done": 39, "refused": 1}
    assert len(standing(client, 40)) == 39


def test_nothing_is_sent_without_a_permit(client: Client, proxy: Proxy) -> None:
    def before() -> None:
        raise BoilerBeamError("not any more")

    with pytest.raises(BoilerBeamError, match="not any more"):
        kinds(BatchWriter(client, before=before), items(client, 3))
    assert "BatchWrite" not in proxy.calls
