"""Whole programs while something fails: nothing is lost, and no older row stands over a newer one.

The programs run against the emulators, through a proxy where calls shall fail. What stands is compared with the oracle
and by `boiler-beam diff`.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from boiler_beam.connectors.pubsub.envelope import Message, document_message
from boiler_beam.events import Change
from boiler_beam.values import format_timestamp
from tests.helpers.firestore import Application, Write
from tests.helpers.pubsub import Channel
from tests.helpers.servers import wait_until
from tests.pipelines.test_firestore import TEAMS, VIEWS, application, rows, truth
from tests.pipelines.test_streams import MAIN, cli, environment

__all__ = ["application"]


class Program:
    """`pipelines.main` in a process of its own, whose output goes to a file."""

    def __init__(self, folder: Path, *arguments: str, **hosts: str) -> None:
        self.log = folder / "log"
        self._begins = self.log.stat().st_size if self.log.exists() else 0
        hosts = {f"{name.upper()}_EMULATOR_HOST": host for name, host in hosts.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*MAIN, *arguments], cwd=folder, env={**environment(), **hosts}, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        """What it printed."""
        return self.log.read_bytes()[self._begins :].decode()

    def ended(self, seconds: float = 60) -> int:
        """Waits for its end; gives its exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Asks it to end, and waits until it did as asked."""
        self.process.terminate()
        assert self.ended() == 0, self.said

    def kill(self) -> None:
        """kill -9."""
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
    """Waits until all rows are there, and are what the oracle says; a program that ends fails the test."""
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
    """What a relay publishes of what was written."""
    return [document_message(change) for change in application.history[begin:]]


def killed(application: Application, channel: Channel, project: str, folder: Path, number: int, deaths: int) -> None:
    """S20: kill -9 at random points while changes come."""
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


def test_s1_all_messages_twice_and_shuffled(
    application: Application, channel: Channel, project: str, tmp_path: Path
) -> None:
    def published() -> list[Message]:
        return random.Random(6).sample(2 * messages(application), 2 * len(application.history))

    assert publish_and_follow(application, channel, project, tmp_path, published) == []


def test_a_poison_message_every_hundred(
    application: Application, channel: Channel, project: str, tmp_path: Path
) -> None:
    """Each is a dead letter, with what it held, and holds nothing up."""
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


def test_s1_the_clocks_of_relays_differ(
    application: Application, channel: Channel, project: str, tmp_path: Path
) -> None:
    """Event times are wrong by minutes, and no two machines agree."""

    def published() -> list[Message]:
        order, found = random.Random(10), []
        for change in application.history:
            micros = change.version + order.choice([-600, -60, 0, 60, 600]) * 1_000_000
            found.append(document_message(change, event_time=format_timestamp(micros)))
        return found

    assert publish_and_follow(application, channel, project, tmp_path, published) == []
