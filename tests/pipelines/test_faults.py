"""Whole programs with faults: nothing is lost, and no older row replaces a newer one.

The programs run against the emulators, through a proxy where calls shall fail. What stands is compared with the oracle
and by `boiler-beam diff`.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.connectors.firestore.protos import METHODS
from boiler_beam.connectors.pubsub.envelope import Message, document_message
from boiler_beam.connectors.pubsub.protos import AcknowledgeRequest
from boiler_beam.events import Change
from boiler_beam.values import format_timestamp
from tests.helpers import programs
from tests.helpers.faults import Call, Fault, Policy, Proxy, statuses
from tests.helpers.firestore import Application, Write
from tests.helpers.proxy import TcpProxy
from tests.helpers.pubsub import Channel
from tests.helpers.servers import wait_until
from tests.pipelines.test_firestore import TEAMS, VIEWS, application, rows, truth
from tests.pipelines.test_streams import MAIN, cli, environment

__all__ = ["application"]


class Program:
    """`pipelines.main` in its own process, with its output in a file."""

    def __init__(self, folder: Path, *arguments: str, **hosts: str) -> None:
        self.log = folder / "log"
        self._begins = self.log.stat().st_size if self.log.exists() else 0
        hosts = {f"{name.upper()}_EMULATOR_HOST": host for name, host in hosts.items()}
        with self.log.open("ab") as log:
            self.process = programs.Program([*MAIN, *arguments], folder, {**environment(), **hosts}, log)

    @property
    def said(self) -> str:
        """Returns its output."""
        return self.log.read_bytes()[self._begins :].decode()

    def ended(self, seconds: float = 60) -> int:
        """Waits for its end; returns the exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Asks it to end, and waits for its end."""
        self.process.terminate()
        assert self.ended() == 0, self.said

    def kill(self) -> None:
        """Kills it by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextmanager
def program(folder: Path, *arguments: str, **hosts: str) -> Iterator[Program]:
    """Killed at the end whatever happens.

    Args:
        folder: Where it works.
        arguments: Of its command line.
        hosts: Emulators that it shall use instead of those of this process: `firestore`, `pubsub`.
    """
    one = Program(folder, *arguments, **hosts)
    try:
        yield one
    finally:
        one.kill()


def stream(*sources: str, sink: str, state: str = "state.db") -> list[str]:
    given = [word for source in sources for word in ("--source", source)]
    return ["--mode", "stream", *given, "--sink", sink, "--state", f"sqlite:{state}", "--dead_letter", DEAD_LETTERS]


DEAD_LETTERS = "jsonl:dead.jsonl"


def wait_for(application: Application, one: Program, seconds: float = 90) -> None:
    """Waits until the rows equal the oracle's; fails if the program ends."""
    expected = truth(application)

    def is_right() -> bool:
        assert one.process.poll() is None, one.said
        return rows(application) == expected

    try:
        wait_until(is_right, "the rows of all documents", seconds)
    except AssertionError as error:
        found = rows(application)
        different = [path for path in {*found, *expected} if found.get(path) != expected.get(path)]
        told = [(path, found.get(path), expected.get(path)) for path in sorted(different)[:5]]
        raise AssertionError(f"{error}; {len(different)} rows differ, such as {told}; {one.said[-2000:]}") from None


def assert_no_difference(folder: Path, project: str) -> None:
    database = f"firestore:{project}"
    done = cli(folder, "diff", "--views", VIEWS, "--source", database, database)
    assert done.stdout == "no row differs\n", done.stdout + done.stderr


def moves(number: int, seed: int, players: int) -> Iterator[list[Write]]:
    """Writes and deletions of teams and players, in groups that hold each path once; only what is there is deleted."""
    order = random.Random(seed)
    there: set[str] = set()
    group: dict[str, Any] = {}
    for _ in range(number):
        path, fields = f"players/p{order.randrange(players)}", None
        if order.random() < 0.02:
            path, fields = f"teams/t{order.randrange(4)}", {"name": f"name {order.randrange(9)}"}
        elif path not in there or order.random() < 0.9:
            fields = {"team": f"teams/t{order.randrange(4)}", "points": order.randrange(100)}
        if path in group:
            yield list(group.items())
            group = {}
        group[path] = fields
        there.discard(path) if fields is None else there.add(path)
    yield list(group.items())


def write(application: Application, groups: Iterable[list[Write]]) -> None:
    for group in groups:
        application.write(group)


def messages(application: Application, begin: int = 0) -> list[Message]:
    """Returns the messages that a relay publishes for some writes."""
    return [document_message(change) for change in application.history[begin:]]


def killed(application: Application, channel: Channel, project: str, folder: Path, number: int, deaths: int) -> None:
    """State, positions and outbox commit together: kill -9 at random points loses nothing (S20)."""
    application.write(TEAMS)
    order, database = random.Random(number), f"firestore:{project}"
    groups = list(moves(number, seed=number, players=number // 10))
    given = stream(database, channel.source, sink=database)
    size = -(-len(groups) // deaths)
    for begin in range(0, len(groups), size):
        with program(folder, *given) as one:
            told = len(application.history)
            write(application, groups[begin : begin + size])
            channel.publish(messages(application, told))
            with pytest.raises(subprocess.TimeoutExpired):
                one.ended(0.8 + 2.5 * order.random())
    with program(folder, *given) as one:
        wait_for(application, one, 180)
        one.stop()
    assert len(application.history) == number + len(TEAMS)
    assert_no_difference(folder, project)
    checked = cli(folder, "state", "check", "sqlite:state.db")
    assert checked.stdout == "no problems\n"


@pytest.mark.slow
def test_s20_killed_at_any_time(application: Application, channel: Channel, project: str, tmp_path: Path) -> None:
    killed(application, channel, project, tmp_path, 2_000, 5)


@pytest.mark.slow
def test_s20_killed_twenty_times(application: Application, channel: Channel, project: str, tmp_path: Path) -> None:
    killed(application, channel, project, tmp_path, 20_000, 20)


def publish_and_follow(
    application: Application, channel: Channel, project: str, folder: Path, published: Callable[[], list[Message]]
) -> list[dict[str, Any]]:
    """Follows what is published of a history from the documents as they were in its middle; gives the dead letters.

    Args:
        application: Writes it.
        channel: Where it is published.
        project: Where it is written.
        folder: Of the program.
        published: The messages, once all is written.
    """
    application.write(TEAMS)
    database = f"firestore:{project}"
    groups = list(moves(600, seed=6, players=60))
    write(application, groups[: len(groups) // 2])
    with program(folder, *stream(database, channel.source, sink=database)) as one:
        wait_for(application, one)
        write(application, groups[len(groups) // 2 :])
        channel.publish(published())
        wait_for(application, one)
        one.stop()
    assert_no_difference(folder, project)
    letters = folder / DEAD_LETTERS.partition(":")[2]
    return [json.loads(line) for line in letters.read_text().splitlines()] if letters.exists() else []


def time_of(micros: int) -> str:
    return format_timestamp(datetime.fromtimestamp(micros / 1e6, timezone.utc))


def test_s1_all_messages_twice_and_shuffled(
    application: Application, channel: Channel, project: str, tmp_path: Path
) -> None:
    """Two relays publish each change; their clocks differ by minutes, differently for each change."""

    def published() -> list[Message]:
        order, found = random.Random(6), []
        for change in 2 * application.history:
            micros = change.version + order.randrange(-600, 600) * 1_000_000
            found.append(document_message(change, event_time=time_of(micros)))
        return order.sample(found, len(found))

    assert publish_and_follow(application, channel, project, tmp_path, published) == []


def test_a_poison_message_every_hundred(
    application: Application, channel: Channel, project: str, tmp_path: Path
) -> None:
    """Each malformed message is a dead letter with its content, and stops nothing."""
    path, newest = "players/p1", 2**62
    poison = [
        Message(b"\xff\x00", {"number": "1"}),
        Message(b"{", {}),
        Message(b'{"boiler_beam": 2, "path": "players/p1"}', {}),
        Message(b'{"boiler_beam": 1, "path": "players/p1", "fields": {}}', {}),
        document_message(Change(path, newest, msgspec.Raw(b'{"points": {"stringValue": "many"}}'))),
        Message(b"\x08", {"ce-type": "google.cloud.firestore.document.v1.written"}),
    ]

    def published() -> list[Message]:
        found = messages(application)
        assert len(found) > 100 * len(poison)
        for place, one in enumerate(poison):
            found.insert(100 * place, one)
        return found

    letters = publish_and_follow(application, channel, project, tmp_path, published)
    assert len({(one["code"], one["input"]) for one in letters}) == len(poison)


@pytest.mark.slow
def test_connections_are_cut_in_mid_call(
    application: Application, firestore_emulator: str, project: str, tmp_path: Path
) -> None:
    """Now and then in the middle of an answer, while it listens, reads and writes."""
    database = f"firestore:{project}"
    application.write(TEAMS)
    with (
        TcpProxy(firestore_emulator) as proxy,
        program(tmp_path, *stream(database, sink=database), firestore=proxy.address) as one,
    ):
        wait_for(application, one)
        groups = list(moves(200, seed=2, players=40))
        for place, group in enumerate(groups):
            application.write(group)
            if place % 5 == 4:
                proxy.cut()
            elif place % 5 == 2:
                proxy.cut_at = [proxy.carried + 500]
        assert proxy.connections > 1
        wait_for(application, one)
        one.stop()
    assert_no_difference(tmp_path, project)


def refused(seconds: float) -> Policy:
    """All calls fail with UNAVAILABLE for some time."""
    until = time.monotonic() + seconds
    return lambda call: Fault(grpc.StatusCode.UNAVAILABLE) if time.monotonic() < until else None


def aborted(seconds: float) -> Policy:
    """Every tenth write fails with ABORTED, alone and as a whole call."""
    chance = random.Random(3)
    some = statuses(*METHODS["BatchWrite"][1:], chance, 0.1, grpc.StatusCode.ABORTED)
    return lambda call: (
        Fault(grpc.StatusCode.ABORTED) if call.method in WRITES and chance.random() < 0.1 else some(call)
    )


def exhausted(seconds: float) -> Policy:
    """Bursts of calls fail with RESOURCE_EXHAUSTED."""
    return lambda call: Fault(grpc.StatusCode.RESOURCE_EXHAUSTED) if call.number % 16 >= 12 else None


WRITES = ("BatchWrite", "Commit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(refused, 6), pytest.param(refused, 30, marks=pytest.mark.slow), (aborted, 0), (exhausted, 0)],
)
def test_firestore_refuses(
    application: Application,
    firestore_emulator: str,
    project: str,
    tmp_path: Path,
    fault: Callable[[float], Policy],
    seconds: float,
) -> None:
    database, faults = f"firestore:{project}", 0

    def counted(call: Call) -> Fault | None:
        nonlocal faults
        found = policy(call)
        faults += found is not None
        return found

    application.write(TEAMS)
    with (
        Proxy(firestore_emulator) as proxy,
        program(tmp_path, *stream(database, sink=database), firestore=proxy.address) as one,
    ):
        wait_for(application, one)
        policy = fault(seconds)
        proxy.policy = counted
        write(application, moves(200, seed=3, players=60))
        wait_for(application, one)
        one.stop()
    assert faults > 3
    assert_no_difference(tmp_path, project)


@pytest.mark.slow
def test_s17_a_zombie_writes_late(
    application: Application, firestore_emulator: str, project: str, tmp_path: Path
) -> None:
    """A program is stopped during a call, another one resumes from its state, and then the old call arrives."""
    database, late = f"firestore:{project}", Late("cards/")
    application.write([*TEAMS, *((f"players/p{one}", {"team": "teams/t1", "points": one}) for one in range(20))])
    with (
        Proxy(firestore_emulator) as proxy,
        program(tmp_path, *stream(database, sink=database), firestore=proxy.address) as zombie,
    ):
        wait_for(application, zombie)
        proxy.policy = late
        application.write([(f"players/p{one}", {"team": "teams/t1", "points": 1}) for one in range(0, 20, 2)])
        wait_until(late.came.is_set, "a call that writes rows")
        zombie.process.send_signal(signal.SIGSTOP)
        for file in tmp_path.glob("state.db*"):
            shutil.copy(file, tmp_path / file.name.replace("state", "copy"))
        with program(tmp_path, *stream(database, sink=database, state="copy.db")) as follower:
            application.write([(f"players/p{one}", {"team": "teams/t2", "points": 2}) for one in range(0, 20, 3)])
            wait_for(application, follower)
            late.arrive(application)
            wait_for(application, follower)
            late.ended.set()
            zombie.process.send_signal(signal.SIGCONT)
            assert zombie.ended() == 1, zombie.said
            assert "expected to continue as the writer of" in zombie.said
            assert "of another program, which took over; fix: let one of the two run" in zombie.said
            assert "Traceback" not in zombie.said
            wait_for(application, follower)
            follower.stop()
    assert_no_difference(tmp_path, project)


class Late:
    """A policy that delays the first call that writes certain documents, and forwards it when asked.

    Attributes:
        came: It is held.
        ended: The one who called is told UNAVAILABLE.
    """

    def __init__(self, path: str) -> None:
        self.path, self.came, self.ended = path.encode(), threading.Event(), threading.Event()
        self.held: Call | None = None

    def __call__(self, call: Call) -> Fault | None:
        if self.held is not None or call.method not in WRITES or self.path not in call.request:
            return None
        self.held = call
        self.came.set()
        return Fault(grpc.StatusCode.UNAVAILABLE, before=self.ended.wait)

    def arrive(self, application: Application) -> None:
        """Forwards the delayed call to the server, which may refuse it."""
        assert self.held is not None
        with suppress(grpc.RpcError):
            request = METHODS[self.held.method][1].FromString(self.held.request)
            application.client.call(self.held.method, request)


@pytest.mark.slow
def test_s18_a_zombie_whose_lease_lapsed(
    application: Application, firestore_emulator: str, project: str, tmp_path: Path
) -> None:
    """The other program has another state, so it waits until the lease has expired."""
    database, late = f"firestore:{project}", Late("cards/")
    application.write([*TEAMS, *((f"players/p{one}", {"team": "teams/t1", "points": one}) for one in range(20))])
    with (
        Proxy(firestore_emulator) as proxy,
        program(tmp_path, *stream(database, sink=database), firestore=proxy.address) as zombie,
    ):
        wait_for(application, zombie)
        proxy.policy = late
        application.write([(f"players/p{one}", {"team": "teams/t1", "points": 1}) for one in range(0, 20, 2)])
        wait_until(late.came.is_set, "a call that writes rows")
        zombie.process.send_signal(signal.SIGSTOP)
        application.write([(f"players/p{one}", {"team": "teams/t2", "points": 2}) for one in range(0, 20, 3)])
        application.write([("players/p4", None)])
        with program(tmp_path, *stream(database, sink=database, state="other.db")) as follower:
            wait_for(application, follower, 120)
            late.arrive(application)
            late.ended.set()
            zombie.process.send_signal(signal.SIGCONT)
            assert zombie.ended() == 1, zombie.said
            assert "got generation 2 of another program, which took over" in zombie.said
            wait_for(application, follower)
            follower.stop()
    assert_no_difference(tmp_path, project)


def generations(application: Application) -> set[int]:
    """Returns the stamps of the current rows."""
    found = [*application.documents("cards").values(), *application.documents("tables").values()]
    return {fields["_boiler"]["generation"] for fields in found}


def test_s13_an_old_generation_comes_back(application: Application, project: str, tmp_path: Path) -> None:
    database = f"firestore:{project}"
    write(application, [TEAMS, *moves(60, seed=5, players=20)])
    for number, state in enumerate(("first.db", "second.db"), 1):
        with program(tmp_path, *stream(database, sink=database, state=state)) as one:
            wait_until(lambda n=number: generations(application) == {n}, f"generation {number}")
            wait_for(application, one)
            one.stop()
    before = application.documents("cards"), application.documents("tables")
    application.write([("teams/t1", {"name": "a new name"})])
    with program(tmp_path, *stream(database, sink=database, state="first.db")) as old:
        assert old.ended() == 2
    assert old.said.splitlines()[-1] == (
        f"error: {database}: expected Card of generation 1, which this state feeds, got 2 of another program; "
        "fix: use the state of that one, or start with an empty state"
    )
    assert (application.documents("cards"), application.documents("tables")) == before


@pytest.mark.slow
def test_s18_two_programs_on_one_sink(application: Application, project: str, tmp_path: Path) -> None:
    """The second program is refused; the first one, killed and restarted from its state, continues at once."""
    database = f"firestore:{project}"
    write(application, [TEAMS, *moves(60, seed=11, players=20)])
    given = stream(database, sink=database)
    with program(tmp_path, *given) as first:
        wait_for(application, first)
        (tmp_path / "other").mkdir()
        with program(tmp_path / "other", *given) as second:
            assert second.ended() == 2
        assert f"error: {database}: expected to be the only writer of Card, got a stream that writes it" in second.said
        assert "fix: stop it, or wait until it ends" in second.said
        write(application, moves(60, seed=12, players=20))
        wait_for(application, first)
    write(application, moves(60, seed=13, players=20))
    with program(tmp_path, *given) as again:
        wait_for(application, again, LAPSE_SECONDS / 2)
        again.stop()
    assert_no_difference(tmp_path, project)


LAPSE_SECONDS = WriteOptions().lapse_seconds


@pytest.mark.slow
def test_s3_a_new_snapshot_after_deletions(
    application: Application, pubsub_emulator: str, channel: Channel, project: str, tmp_path: Path
) -> None:
    """A job restarts with an empty state; old messages in the subscription restore no deleted row."""
    database = f"firestore:{project}"
    write(application, [TEAMS, *moves(100, seed=8, players=30)])
    with program(tmp_path, *stream(database, channel.source, sink=database)) as one:
        wait_for(application, one)
        application.write([(f"players/p{number}", {"team": "teams/t2", "points": number}) for number in range(30)])
        channel.publish(messages(application))
        wait_for(application, one)
        one.stop()
    application.write([(f"players/p{number}", None) for number in range(0, 30, 2)] + [("teams/t3", None)])
    old = [one for one in messages(application) if b'"fields":null' not in one.data]
    channel.publish(random.Random(8).sample(old, len(old)))
    given = stream(database, channel.source, sink=database, state="new.db")
    acknowledged = 0

    def count(call: Call) -> None:
        nonlocal acknowledged
        if call.method == "Acknowledge":
            acknowledged += len(AcknowledgeRequest.FromString(call.request).ack_ids)

    with (
        Proxy(pubsub_emulator, count) as proxy,
        program(tmp_path, *given, "--prune", "all", pubsub=proxy.address) as one,
    ):
        wait_for(application, one)
        application.write([("players/p1", {"team": "teams/t1", "points": 99})])
        published = len(old) + channel.publish([*old, messages(application)[-1]])
        wait_until(lambda: acknowledged >= published, "the end of the subscription")
        wait_for(application, one)
        one.stop()
    assert_no_difference(tmp_path, project)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["listening", "messages", "backfill"])
def test_s16_deletions_race_a_backfill(
    application: Application,
    firestore_emulator: str,
    channel: Channel,
    project: str,
    tmp_path: Path,
    first: str,
) -> None:
    """Documents are deleted and created again, while a backfill beside the stream reads them.

    The stream hears of it while the backfill reads (it listens, or messages come: then the time of a deletion travels
    beside its version, S1), or when the backfill has ended.
    """
    database, known = f"firestore:{project}", 0
    application.write([*TEAMS, *((f"players/p{one}", {"team": "teams/t1", "points": one}) for one in range(40))])

    def race(call: Call) -> Fault | None:
        if call.method != "RunQuery" or b"players" not in call.request or len(application.history) > known:
            return None
        application.write([(f"players/p{one}", None) for one in range(0, 40, 2)])
        application.write([(f"players/p{one}", {"team": "teams/t2", "points": 7}) for one in range(0, 40, 4)])
        application.write([("teams/t0", None)])
        if first == "messages":
            channel.publish(messages(application, known))
        if first != "backfill":
            wait_for(application, one)
        return None

    (tmp_path / "beside").mkdir()
    sources = [database] if first == "listening" else [database, channel.source]
    with program(tmp_path, *stream(*sources, sink=database)) as one:
        wait_for(application, one)
        known = len(application.history)
        with Proxy(firestore_emulator, lambda call: Fault(after=lambda: race(call))) as proxy:
            given = ["--source", database, "--sink", database, "--prune", "all", "--mode", "backfill"]
            with program(tmp_path / "beside", *given, firestore=proxy.address) as backfill:
                assert backfill.ended() == 0, backfill.said
        if first == "backfill":
            channel.publish(messages(application, known))
        wait_for(application, one)
        one.stop()
    assert_no_difference(tmp_path, project)
    assert ("drift: 0\n" in backfill.said) == (first != "backfill"), backfill.said
