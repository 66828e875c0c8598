"""Guarded rows in Firestore: newer stamps win (S13), equal rows are not written (S14), no read while cached (S17)."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.guard import Guard, tombstone_of
from boiler_beam.connectors.firestore.options import Limits
from boiler_beam.connectors.firestore.protos import CommitRequest, Write
from boiler_beam.connectors.firestore.write import BatchWriter
from boiler_beam.errors import BoilerBeamError
from boiler_beam.events import DeadLetter, EncodedRow, Stamp
from tests.helpers.faults import Call, Fault, Proxy
from tests.helpers.firestore_rows import documents, row, rows, tombstones

A = "rows/a"


class Clock:
    """A clock that advances only by the waiting times."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


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


def guard(client: Client, clock: Clock | None = None, **more: Any) -> Guard:
    clock = clock or Clock()
    more = {"pace_seconds": 0.0, "now": lambda: 1_000_000.0, **more}
    return Guard(BatchWriter(client, Limits(retry_seconds=30), clock=clock, wait=clock.wait), **more)


def test_a_row_lives_and_is_read_once(client: Client, proxy: Proxy) -> None:
    """A writer needs only the state that it wrote or read last: no read (S17)."""
    one = guard(client)
    for version, fields in enumerate([{"x": 1}, {"x": 2}, {}, {"x": 3}, {"x": 4}, {}, {"x": 5}], start=1):
        assert one.write([row(A, version, **fields)]) == []
        found = rows(client, A)
        assert found == ({A: row(A, version, **fields)} if fields else {})
        assert set(tombstones(client, A)) == (set() if fields else {A})
    assert one.counts.reads == 2
    assert one.counts.conflicts == 0
    assert proxy.calls["BatchWrite"] == 2


def test_steady_state_reads_nothing_and_writes_once(client: Client, proxy: Proxy) -> None:
    """No read while the cache holds the path, and one write for a changed row (S17)."""
    one = guard(client)
    one.write(row(f"rows/{place}", 1, x=0) for place in range(600))
    before = one.counts.reads, one.counts.writes, one.counts.deletes
    for version in range(2, 5):
        one.write(row(f"rows/{place}", version, x=version) for place in range(600))
    assert (one.counts.reads, one.counts.writes, one.counts.deletes) == (before[0], before[1] + 1800, before[2])
    assert before == (1200, 600, 600)


def test_what_is_forgotten_is_read_again(client: Client, proxy: Proxy) -> None:
    """The cache is bounded, and drops the least recently used path (S17)."""
    one = guard(client, cached=2)
    for path in ("rows/a", "rows/b", "rows/a", "rows/c"):
        one.write([row(path, len(path) + one.counts.writes, x=1)])
    assert one.counts.reads == 6
    one.write([row("rows/a", 100, x=1)])
    assert one.counts.reads == 6
    one.write([row("rows/b", 100, x=1)])
    assert one.counts.reads == 8


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize(
    ("standing", "old"),
    [
        (row(A, 5, x=5), row(A, 4, x=4)),
        (row(A, 5, x=5), row(A, 4)),
        (row(A, 5), row(A, 4, x=4)),
        (row(A, 5), row(A, 4)),
        (row(A, 5, generation=2, x=5), row(A, 9, x=9)),
        (row(A, 5, generation=2), row(A, 9, x=9)),
        (row(A, 5, seq=2, x=5), row(A, 5, seq=1, x=4)),
    ],
)
def test_an_older_one_is_dropped(
    client: Client, proxy: Proxy, is_known: bool, standing: EncodedRow, old: EncodedRow
) -> None:
    """Stamps are compared (S13), and an older row never replaces a newer row or tombstone (S17)."""
    one = guard(client)
    one.write([standing])
    other = one if is_known else guard(client)
    other.write([old])
    assert rows(client, A) == ({A: standing} if standing.fields else {})
    assert other.counts.older == 1
    assert other.counts.writes == (1 if is_known else 0)


def test_a_zombie_with_an_old_batch_changes_nothing(client: Client, proxy: Proxy) -> None:
    """The remembered state of a path is outdated: the write fails, is compared, and repeated or dropped (S17)."""
    paths = [f"rows/{place}" for place in range(30)]
    zombie, successor = guard(client), guard(client)
    zombie.write(row(path, 1, x=1) for path in paths[:20])
    newer = [row(path, 3, **({"x": 3} if place % 3 else {})) for place, path in enumerate(paths)]
    successor.write(newer)
    zombie.write(row(path, 2, **({"x": 2} if place % 2 else {})) for place, path in enumerate(paths))
    assert rows(client, *paths) == {one.path: one for one in newer if one.fields}
    assert zombie.counts.older == 30
    assert zombie.counts.conflicts == 20


def test_equal_stamps(client: Client, proxy: Proxy) -> None:
    """A row whose fields are equal to the stored ones is not written (S14)."""
    guard(client).write([row(A, 5, x=1.5), row("rows/b", 5)])
    again = guard(client)
    for times in (1, 2):
        again.write([row(A, 5, x=1.5), row("rows/b", 5)])
        assert (again.counts.unchanged, again.counts.writes) == (2 * times, 0)
    again.write([row(A, 5, x=2.5)])
    assert rows(client, A) == {A: row(A, 5, x=2.5)}
    again.write([row(A, 5)])
    assert rows(client, A) == {}


def test_of_one_path_the_newest_is_taken(client: Client, proxy: Proxy) -> None:
    one = guard(client)
    one.write([row(A, 1, x=1), row(A, 3, x=3), row(A, 2, x=2)])
    assert rows(client, A) == {A: row(A, 3, x=3)}
    assert one.counts.writes == 1


def test_documents_that_nobody_stamped_are_replaced(client: Client, proxy: Proxy) -> None:
    one = guard(client)
    one.write([row(A, 1, x=1)])
    document = documents(client, [A])[A]
    del document.fields["_boiler"]
    client.call("Commit", CommitRequest(database=client.database, writes=[Write(update=document)]))
    one.write([row(A, 1, x=2)])
    assert rows(client, A) == {A: row(A, 1, x=2)}


def test_a_tombstone_tells_what_it_is_of(client: Client, proxy: Proxy) -> None:
    """A deletion writes a tombstone with the stamp of the deleted row (S17)."""
    path = "users/u 1/inbox/c1"
    guard(client, retention_seconds=60.0).write([row(path, 7, generation=3, seq=2)])
    assert tombstones(client, path)[path] == {
        "path": path,
        "generation": 3,
        "version": 7,
        "seq": 2,
        "expireAt": {"timestampValue": "1970-01-12T13:47:40Z"},
    }
    assert tombstone_of(path) == "_boiler_tombstones/users%2Fu%201%2Finbox%2Fc1"


@pytest.mark.parametrize("path", ["rows/" + "é" * 700, "__a/b__"])
def test_a_tombstone_has_a_name_that_firestore_takes(client: Client, proxy: Proxy, path: str) -> None:
    name = tombstone_of(path).partition("/")[2]
    assert len(name) <= 1500
    assert not name.startswith("__")
    assert tombstone_of(path + "x") != tombstone_of(path)
    if path.startswith("rows"):
        one = guard(client)
        assert one.write([row(path, 1, x=1)]) == one.write([row(path, 2)]) == []
        assert set(tombstones(client, path)) == {path}


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("is_together", [True, False])
def test_an_unknown_outcome_is_found_out(client: Client, proxy: Proxy, is_done: bool, is_together: bool) -> None:
    """An unknown outcome is resolved by reading the row's own stamp (S17)."""
    one = guard(client)
    one.write([row("rows/old", 1, x=1), row("rows/gone", 1, x=1)])
    seen: dict[str, int] = {}

    def policy(call: Call) -> Fault | None:
        seen[call.method] = seen.get(call.method, 0) + 1
        is_broken = call.method in ("BatchWrite", "Commit") and seen[call.method] == 1
        return Fault(grpc.StatusCode.UNAVAILABLE, is_done=is_done) if is_broken else None

    proxy.policy = policy
    batch = [row("rows/old", 2, x=2), row("rows/new", 2, x=2), row("rows/gone", 2)]
    assert one.write(batch, is_together=is_together) == []
    assert rows(client, "rows/old", "rows/new", "rows/gone") == {one.path: one for one in batch if one.fields}
    assert (one.counts.unchanged == 3) == is_done
    assert one.counts.older == 0
    one.write([row("rows/new", 3, x=3)])
    assert rows(client, "rows/new")["rows/new"].stamp.version == 3


def test_reading_goes_on_where_it_breaks(client: Client, proxy: Proxy) -> None:
    guard(client).write(row(f"rows/{place}", 2, x=1) for place in range(300))
    fault = Fault(grpc.StatusCode.UNAVAILABLE, answers=100)
    proxy.policy = lambda call: fault if call.method == "BatchGetDocuments" and call.number < 6 else None
    other = guard(client)
    other.write(row(f"rows/{place}", 1, x=0) for place in range(300))
    assert other.counts.older == 300


def test_rows_that_firestore_never_takes_are_dead_letters(client: Client, proxy: Proxy) -> None:
    batch = [row(f"rows/{place}", 1, x=1) for place in range(20)]
    batch[3] = row("rows/3", 7, text="x" * (1 << 20))
    batch[5] = row("rows/5", 7, x=1 << 70)
    batch[9] = row("rows/9", 7, **{"": 1})
    letters = guard(client).write(batch)
    assert sorted(letter.path or "" for letter in letters) == ["rows/3", "rows/5", "rows/9"]
    for letter in letters:
        assert isinstance(letter, DeadLetter)
        assert (letter.stage, letter.code, letter.version) == ("write", "row_refused", 7)
    said = {letter.path: letter.message for letter in letters}
    begin, end = "expected a row that Firestore accepts, got ", "; fix: change the view"
    assert said["rows/3"] == f"{begin}a value of 1,048,576 bytes at text, more than 1,048,487{end}"
    assert said["rows/5"] == f"{begin}1180591620717411303424 is not an int64 in x{end}"
    assert said["rows/9"] == f"{begin}an empty key in the row{end}"
    assert len(rows(client, *[one.path for one in batch])) == 17


def test_rows_of_a_mebibyte(client: Client, proxy: Proxy) -> None:
    one = guard(client)
    large = "x" * (1_048_487 - 500)
    for version in (1, 2):
        assert one.write(row(f"rows/{place}", version, text=large) for place in range(12)) == []
    found = rows(client, *[f"rows/{place}" for place in range(12)])
    assert {one.stamp.version for one in found.values()} == {2}
    assert len(found) == 12


def test_together_they_are_seen_at_once(client: Client, proxy: Proxy) -> None:
    """Rows of one commit become visible together: one Commit has creations, updates and deletions (S19)."""
    one = guard(client)
    one.write([row("rows/0", 1, x=1), row("rows/1", 1, x=1)])
    calls = proxy.calls["Commit"]
    one.write([row("rows/0", 2, x=2), row("rows/1", 2), row("rows/2", 2, x=2)], is_together=True)
    assert proxy.calls["Commit"] == calls + 1
    assert "BatchWrite" not in proxy.calls
    times = {one.update_time.ToNanoseconds() for one in documents(client, ["rows/0", "rows/2"]).values()}
    assert len(times) == 1
    assert rows(client, "rows/1") == {}


def test_a_bad_one_does_not_keep_the_others_that_were_together(client: Client, proxy: Proxy) -> None:
    batch = [row("rows/0", 1, x=1), row("rows/1", 1, **{"": 1}), row("rows/2", 1, x=1)]
    letters = guard(client).write(batch, is_together=True)
    assert [letter.path for letter in letters] == ["rows/1"]
    assert rows(client, "rows/0", "rows/1", "rows/2").keys() == {"rows/0", "rows/2"}


# Pace -----------------------------------------------------------------------------------------------------------------


def test_a_path_is_written_once_a_second_and_the_first_goes_at_once(client: Client, proxy: Proxy) -> None:
    """Each path is paced: one write a second, the newest waits, and the first is sent at once (S17)."""
    clock = Clock()
    one = guard(client, clock, pace_seconds=1.0)
    one.write([row(A, 1, x=1)])
    assert clock.now == 100.0
    one.write([row(A, 2, x=2), row("rows/b", 2, x=2)])
    assert clock.now == 101.0
    clock.now = 101.25
    one.write([row("rows/b", 3, x=3)])
    assert clock.now == 101.25
    one.write([row("rows/b", 4, x=4)])
    assert clock.now == 102.25
    clock.now = 110.0
    one.write([row(A, 3, x=3)])
    assert clock.now == 110.0
    assert rows(client, A, "rows/b") == {A: row(A, 3, x=3), "rows/b": row("rows/b", 4, x=4)}


def test_what_may_be_held_is_told_and_not_waited_for(client: Client, proxy: Proxy) -> None:
    clock = Clock()
    one = guard(client, clock, pace_seconds=1.0)
    one.write([row(A, 1, x=1)], may_hold=True)
    one.write([row(A, 2, x=2), row("rows/b", 2, x=2)], may_hold=True)
    assert clock.now == 100.0
    assert one.held == {A: row(A, 2, x=2)}
    assert rows(client, A, "rows/b") == {A: row(A, 1, x=1), "rows/b": row("rows/b", 2, x=2)}
    clock.now = 101.0
    one.write([row(A, 3, x=3)], may_hold=True)
    assert one.held == {}
    assert rows(client, A) == {A: row(A, 3, x=3)}


# Rivals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_rivals_leave_the_newest(client: Client, proxy: Proxy, seed: int) -> None:
    """A deletion races a creation, at 40 paths, by two independent writers over a bad connection: the newest wins (S17)."""
    chance = random.Random(seed)
    paths = [f"rows/{place}" for place in range(40)]
    emitted: dict[str, list[EncodedRow]] = {path: [] for path in paths}
    for path in paths:
        for version in range(1, 9):
            emitted[path].append(row(path, version, **({"x": version} if chance.random() < 0.5 else {})))
    shared = threading.Lock()

    def policy(call: Call) -> Fault | None:
        with shared:
            dice, seconds = chance.random(), chance.random() * 0.004
        broken = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED][call.number % 2]
        code = broken if dice < 0.1 else None
        return Fault(
            code, is_done=dice < 0.05, before=lambda: time.sleep(seconds), after=lambda: time.sleep(seconds / 2)
        )

    proxy.policy = policy
    failed: list[BaseException] = []

    def feed(own: random.Random) -> None:
        try:
            one = guard(client, cached=own.choice([3, 1000]))
            mine = [some for path in paths for some in emitted[path] if own.random() < 0.7 or some is emitted[path][-1]]
            own.shuffle(mine)
            while mine:
                number = own.randint(1, 30)
                batch, mine = mine[:number], mine[number:]
                one.write(batch, is_together=own.random() < 0.3)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=feed, args=(random.Random(f"{seed} {who}"),)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    proxy.policy = lambda call: None
    newest = {path: some[-1] for path, some in emitted.items()}
    assert rows(client, *paths) == {path: one for path, one in newest.items() if one.fields}
    assert set(tombstones(client, *paths)) == {path for path, one in newest.items() if not one.fields}


@pytest.mark.parametrize("standing", [[], [row(A, 1, x=1)], [row(A, 1)]], ids=["nothing", "row", "tombstone"])
@pytest.mark.parametrize("method", ["BatchGetDocuments", "Commit", "BatchWrite"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_rival_comes_between_any_two_steps(
    client: Client, proxy: Proxy, firestore_emulator: str, standing: list[EncodedRow], method: str, is_known: bool
) -> None:
    """Whatever is stored, and whatever the two writers do, the newest row or tombstone remains (S17)."""
    direct = Client(client.database.split("/")[1], {"FIRESTORE_EMULATOR_HOST": firestore_emulator})
    emitted = [(row(A, 2, x=2), row(A, 2)), (row(A, 4, x=4), row(A, 4))]
    cases = itertools.product(itertools.chain(*emitted), (row(A, 3, x=3), row(A, 3)))
    for number, case in enumerate(cases):
        path = f"rows/{number}"
        mine, other = (one._replace(path=path) for one in case)
        proxy.policy = lambda call: None
        slow, rival = guard(client), guard(direct)
        (slow if is_known else rival).write([one._replace(path=path) for one in standing])
        came = once(proxy, method, rival, other)
        slow.write([mine])
        if not came:
            rival.write([other])
        newest = max(mine, other, key=lambda one: one.stamp)
        assert rows(direct, path) == ({path: newest} if newest.fields else {})
        found = [stone["version"] for stone in tombstones(direct, path).values()]
        assert found == ([] if newest.fields else [newest.stamp.version])
    direct.close()


def once(proxy: Proxy, method: str, rival: Guard, other: EncodedRow) -> list[Call]:
    """The rival writes before the next call of that method; returns the calls."""
    came: list[Call] = []

    def policy(call: Call) -> Fault | None:
        if call.method != method or came:
            return None
        came.append(call)
        return Fault(before=lambda: rival.write([other]))

    proxy.policy = policy
    return came


def test_a_row_beside_its_tombstone(client: Client, proxy: Proxy) -> None:
    """Row and tombstone at one path, which no writer leaves: the one with the newer stamp counts (S17)."""
    for number, (of_row, of_tombstone, written) in enumerate([(3, 5, 4), (5, 3, 4), (3, 5, 6), (5, 3, 6)]):
        path = f"rows/{number}"
        guard(client).write([row(path, of_row, x=of_row)])
        document = documents(client, [path])[path]
        guard(client).write([row(path, of_row + of_tombstone)])
        stone = documents(client, [tombstone_of(path)])[tombstone_of(path)]
        stone.fields["version"].integer_value = of_tombstone
        writes = [Write(update=document), Write(update=stone)]
        client.call("Commit", CommitRequest(database=client.database, writes=writes))
        guard(client).write([row(path, written, x=written)])
        found = rows(client, path)[path].stamp.version
        assert (found, len(tombstones(client, path))) == ((6, 0) if written == 6 else (of_row, 1))
        guard(client).write([row(path, 7)])
        assert rows(client, path) == {}


def test_a_row_that_never_stands_still(client: Client, proxy: Proxy) -> None:
    fault = Fault(grpc.StatusCode.FAILED_PRECONDITION)
    proxy.policy = lambda call: fault if call.method == "Commit" else None
    one = guard(client)
    with pytest.raises(BoilerBeamError, match=r"expected rows/a not to change .* fix: find out who else writes it"):
        one.write([row(A, 1, x=1)])
    assert one.counts.conflicts == 51


class Lapsed:
    """A permission that another program has taken."""

    def covers(self, micros: int) -> bool:
        return False

    def renew(self) -> None:
        raise BoilerBeamError("another one took over")


def test_rows_made_after_another_program_took_over_are_taken_back(client: Client, proxy: Proxy) -> None:
    """A program that lost its lease deletes rows that it just created, because its successor does not know them (S18)."""
    before = guard(client)
    before.write([row("rows/old", 1, x=1)])
    zombie = guard(client, permit=Lapsed())
    with pytest.raises(BoilerBeamError, match="took over"):
        zombie.write([row("rows/old", 2, x=2), row("rows/new", 2, x=2)])
    assert rows(client, "rows/old", "rows/new").keys() == {"rows/old"}


def test_stamps_are_compared_from_left_to_right() -> None:
    assert Stamp(1, 9, 9) < Stamp(2, 1, 1) < Stamp(2, 1, 2) < Stamp(2, 2, 0)
