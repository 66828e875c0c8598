"""What sources tell beside changes: the end of a snapshot, touches, acknowledgements, how long they keep (S16, S22)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

import boiler_beam as bb
from boiler_beam import root, view_property
from boiler_beam.connectors.base import Control, Source, StreamWriter
from boiler_beam.engine.follow import Settings, StreamReport, follow
from boiler_beam.engine.intake import gather
from boiler_beam.engine.state import SqliteState, State
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, Complete, DeadLetter, EncodedRow, Event, Touch, View
from boiler_beam.plan import compile_plan
from tests.helpers.engine import Batches, Killed, Letters, WatchedSink
from tests.helpers.histories import changes


class Author(bb.DomainModel, collection="authors"):
    name: str


class Names(bb.ViewModel, collection="names"):
    class Store(bb.Store):
        author: Author = root(Author)

    store: Store

    @view_property
    def name(self) -> str:
        return self.store.author.name


class Live(Source):
    """An unbounded source whose events are here, each batch with its number as position; then it idles.

    Attributes:
        told: What it was told, in order.
    """

    scheme: ClassVar[str] = "live"
    is_bounded: ClassVar[bool] = False

    def __init__(self, batches: Sequence[Sequence[Event]], *, has_snapshot: bool = False, name: str = "one") -> None:
        super().__init__(name)
        self.batches, self.has_snapshot = batches, has_snapshot  # type: ignore[misc]
        self.told: list[object] = []

    def prepare(self, collections: Sequence[str]) -> None:
        self.told.append(list(collections))

    def splits(self) -> Sequence[str]:
        raise AssertionError("it has no parts")

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        raise AssertionError("it has no parts")

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        self.told.append(f"from {position}")
        place = int(position or 0)
        while True:
            if place < len(self.batches):
                place += 1
                yield self.batches[place - 1], str(place)
            else:
                yield [], str(place)

    def acknowledge(self, position: str) -> None:
        self.told.append(position)


class Clock:
    """Ticks when it is looked at."""

    def __init__(self, step: float = 0.3) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_sources_of_one_uri_end_together() -> None:
    def follow_a_little() -> None:
        batch = writes([("authors/a1", 1, {"name": "Ann"})])
        for number in range(50):
            for read, _ in enumerate(gather([Live([batch]), Live([batch])], {}, 0, 1, Clock(), lambda: False)):
                if read == number:
                    break

    thread = threading.Thread(target=follow_a_little, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "one source waits for the other"


def writes(table: Sequence[tuple[str, int, Any]]) -> list[Event]:
    return list(changes(list(table)))


def lives(
    sources: Sequence[Source],
    path: Path | None = None,
    *,
    sink: WatchedSink | None = None,
    rounds: int = 40,
    now: float = 1_000.0,
    settings: Settings | None = None,
    clock: Clock | None = None,
    views: Sequence[type[bb.ViewModel]] = (Names,),
    told: Callable[[StreamReport], None] = lambda report: None,
) -> tuple[dict[str, bytes | None], StreamReport, WatchedSink]:
    """One life of the program, which ends after some looks at the sources."""
    left, sink, clock = [rounds], sink or WatchedSink(), clock or Clock()

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] <= 0

    state = State() if path is None else SqliteState(str(path))
    try:
        report = follow(
            compile_plan(views),
            sources,
            sink,
            Letters(),  # type: ignore[arg-type]
            state,
            settings or Settings(coalesce_seconds=0),
            should_stop=should_stop,
            clock=clock,
            now=lambda: now,
            on_report=told,
        )
    finally:
        state.close()
    return dict(sink.fields), report, sink


ANN, BOB = b'{"name":"Ann"}', b'{"name":"Bob"}'


def test_no_row_before_an_unbounded_source_gave_all_that_there_is() -> None:
    more: list[Event] = [Complete("authors", 5, {"authors/a", "authors/b"})]
    table = [("authors/a", 1, {"name": "Ann"}), ("authors/b", 2, {"name": "Bob"})]
    source = Live([writes(table[:1]), writes(table[1:])], has_snapshot=True)
    rows, report, _ = lives([source])
    assert (rows, report.held_back) == ({}, ["Names"])
    source = Live([writes(table[:1]), [*writes(table[1:]), *more]], has_snapshot=True)
    rows, report, sink = lives([source])
    assert (rows, report.held_back) == ({"names/a": ANN, "names/b": BOB}, [])
    assert sink.writes == 2
    assert source.told == [["authors"], "from None", "1", "2"]


@pytest.mark.parametrize("kind", ["a source with a snapshot", "a snapshot and a stream", "a history"])
@pytest.mark.parametrize("is_stored", [True, False])
def test_it_is_ready_when_all_rows_are_in_the_sink(kind: str, is_stored: bool, tmp_path: Path) -> None:
    """Rows of a snapshot are given in several transactions, those of a history with its batches."""
    table = [(f"authors/{number}", number, {"name": "Ann"}) for number in range(1, 2_501)]
    batches = [writes(table[:100]), writes(table[100:])]
    sources: list[Source] = [Batches("all", batches)]
    if kind == "a source with a snapshot":
        whole = Complete("authors", 9_999, {path for path, _, _ in table})
        sources = [Live([*batches, [whole]], has_snapshot=True)]
    elif kind == "a snapshot and a stream":
        sources.append(Live([], name="two"))
    sink, seen = WatchedSink(), list[tuple[bool, int]]()
    path = tmp_path / "state.db" if is_stored else None
    told = lambda report: seen.append((report.is_ready, len(sink.fields)))  # noqa: E731
    lives(sources, path, sink=sink, told=told)
    assert {number for is_ready, number in seen if is_ready} == {2_500}
    assert not seen[0][0]
    if is_stored:
        seen.clear()
        lives(sources, path, sink=sink, told=told)
        assert seen[-1] == (True, 2_500), "a program that goes on"


def test_a_program_that_is_killed_within_the_snapshot_waits_for_it_again(tmp_path: Path) -> None:
    table = writes([("authors/a", 1, {"name": "Ann"})])
    rows, _, sink = lives([Live([table], has_snapshot=True)], tmp_path / "state.db")
    assert rows == {}
    source = Live([table, [Complete("authors", 5, {"authors/a"})]], has_snapshot=True)
    rows, _, _ = lives([source], tmp_path / "state.db", sink=sink)
    assert rows == {"names/a": ANN}
    assert source.told[1] == "from 1"


def test_s22_what_a_snapshot_lacks_was_deleted(tmp_path: Path) -> None:
    begin = writes([("authors/a", 1, {"name": "Ann"}), ("authors/b", 2, {"name": "Bob"})])
    _, _, sink = lives(
        [Live([[*begin, Complete("authors", 3, {"authors/a", "authors/b"})]], has_snapshot=True)], tmp_path / "s"
    )
    again = [*begin[1:], *writes([("authors/c", 90, {"name": "Cid"})]), Complete("authors", 80, {"authors/b"})]
    rows, report, sink = lives([Live([[], again], has_snapshot=True)], tmp_path / "s", sink=sink)
    assert rows == {"names/a": None, "names/b": BOB, "names/c": b'{"name":"Cid"}'}, "c is newer than the snapshot"
    assert sink.stamps["names/a"].version == 80
    assert report.documents == 2


class Player(bb.DomainModel, collection="players"):
    author: bb.Ref[Author]


def of_players(*, has_author: bool) -> type[bb.ViewModel]:
    """A view, before and after it needs another collection."""

    class Cards(bb.ViewModel, collection="cards"):
        class Store(bb.Store):
            player: Player = root(Player)
            if has_author:
                author: Author = bb.reference("player.author")

        store: Store

        @view_property
        def name(self) -> str:
            return self.store.author.name if has_author else self.store.player.doc_id

    return Cards


@pytest.mark.parametrize("is_whole", [True, False], ids=["after its first snapshot", "killed within it"])
def test_s22_a_view_that_adds_a_collection_waits_until_it_is_in(tmp_path: Path, is_whole: bool) -> None:
    """Nothing is given, and nothing pruned, of what lacks the documents of a collection that is not read yet."""
    players = writes([("players/p", 1, {"author": "authors/a"})])
    whole: list[Event] = [Complete("players", 5, {"players/p"})]
    first, second = of_players(has_author=False), of_players(has_author=True)
    source = Live([[*players, *(whole if is_whole else [])]], has_snapshot=True)
    _, _, sink = lives([source], tmp_path / "s", views=[first])
    begun = {"cards/p": b'{"name":"p"}'} if is_whole else {}
    assert sink.fields == begun
    rest = [[], [], writes([("authors/a", 2, {"name": "Ann"})]), [] if is_whole else whole]
    ends: list[Event] = [Complete("authors", 9, {"authors/a"})]
    rows, report, _ = lives([Live([[], *rest], has_snapshot=True)], tmp_path / "s", sink=sink, views=[second])
    assert (rows, report.held_back) == (begun, ["Cards"])
    rows, report, _ = lives([Live([[], *rest, ends], has_snapshot=True)], tmp_path / "s", sink=sink, views=[second])
    assert (rows, report.held_back) == ({"cards/p": ANN}, [])
    assert [row.fields for row in sink.history] == [*begun.values(), ANN]


def test_s16_a_touch_before_the_rows_are_given_waits_and_one_of_no_row_is_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table = writes([("authors/a", 1, {"name": "Ann"})])
    touches: list[Event] = [Touch("Names", path, 7) for path in ("names/a", "authors/a", "names", "x/names/a")]
    source = Live([table, touches], has_snapshot=True)
    assert lives([source])[0] == {}
    assert [record.args[1] for record in caplog.records] == ["authors/a", "names", "x/names/a"]  # type: ignore[index]
    source = Live([table, touches, [Complete("authors", 5, {"authors/a"})]], has_snapshot=True)
    rows, _, sink = lives([source])
    assert (rows, sink.stamps["names/a"].version) == ({"names/a": ANN}, 7)


def test_s16_who_asked_is_told_when_the_row_is_written_and_not_when_it_waits() -> None:
    """A sink that paces its rows holds some back (S17)."""

    class Paced(WatchedSink):
        told: ClassVar[list[str]] = []

        @contextmanager
        def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
            with super().stream(views) as writer:
                write, asked = writer.write, [Touch("Names", "names/a", 7)]

                def held(rows: Sequence[tuple[View, EncodedRow]]) -> None:
                    is_asked = any(row.stamp.version == 7 for _, row in rows)
                    writer.held = frozenset({"names/a"} if is_asked and self.told.count("held") < 3 else ())
                    if writer.held:
                        self.told.append("held")
                    else:
                        self.told += [f"wrote {row.stamp.version}" for _, row in rows]
                        write(rows)
                        self.fields = dict.fromkeys(self.fields, b"somebody wrote this")

                def touches() -> list[Touch]:
                    return [asked.pop()] if asked else []

                writer.write, writer.touches = held, touches  # type: ignore[method-assign, assignment]
                writer.touched = lambda: self.told.append("touched")  # type: ignore[method-assign]
                yield writer

    sink = Paced()
    settings = Settings(coalesce_seconds=0, from_empty=True)
    lives([Live([writes([("authors/a", 1, {"name": "Ann"})])])], sink=sink, settings=settings, rounds=60)
    assert sink.told == ["wrote 1", "held", "held", "held", "wrote 7", "touched"]


def test_s22_a_view_that_adds_a_collection_reads_a_snapshot_again(tmp_path: Path) -> None:
    class Database(Batches):
        """All documents as they are."""

        is_snapshot: ClassVar[bool] = True

        def follow(self, position: str | None) -> Iterator[tuple[list[Any], str]]:
            if position is None:
                yield list(self.batches[0]), "read"

    class Book(bb.DomainModel, collection="books"):
        title: str

    class Titles(bb.ViewModel, collection="titles"):
        class Store(bb.Store):
            book = root(Book)

        store: Store

        @view_property
        def title(self) -> str:
            return self.store.book.title

    table = writes([("authors/a", 1, {"name": "Ann"}), ("books/b", 2, {"title": "Atlas"})])
    _, _, sink = lives([Database("one", [table])], tmp_path / "s")
    rows, _, _ = lives([Database("one", [table])], tmp_path / "s", sink=sink, views=[Names, Titles])
    assert rows == {"names/a": ANN, "titles/b": b'{"title":"Atlas"}'}
    lives([Batches("two", [table])], tmp_path / "t", views=[Names])
    with pytest.raises(
        UsageError, match=r"expected one with the documents of books, got one whose views \(Names\) did not read them"
    ):
        lives([Batches("two", [table])], tmp_path / "t", views=[Names, Titles])


def test_s3_what_a_snapshot_lacked_is_not_brought_back_by_an_old_change(tmp_path: Path) -> None:
    class Snapshot(Batches):
        def follow(self, position: str | None) -> Iterator[tuple[list[Any], str]]:
            yield from super().follow(position)
            if position is None:
                yield [Complete("authors", 50, {"authors/a"})], "1"

    snapshot = Snapshot("snapshot", [writes([("authors/a", 40, {"name": "Ann"})])])
    late = writes(
        [("authors/b", 30, {"name": "Bob"}), ("authors/a", 20, {"name": "Old"}), ("authors/c", 51, {"name": "Bob"})]
    )
    rows, _, sink = lives([snapshot, Live([late])], tmp_path / "s")
    assert rows == {"names/a": ANN, "names/c": BOB}
    gone = writes([("authors/b", 30, {"name": "Bob"}), ("authors/a", 40, None)])
    rows, _, _ = lives([snapshot, Live([[], gone])], tmp_path / "s", sink=sink)
    assert rows == {"names/a": None, "names/c": BOB}, "a deletion has the version that it deleted"


def test_s16_a_touch_comes_by_a_source() -> None:
    class Tampered(WatchedSink):
        """Somebody writes over each row that comes."""

        @contextmanager
        def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
            with super().stream(views) as writer:
                write = writer.write

                def tampered(rows: Sequence[tuple[View, EncodedRow]]) -> None:
                    write(rows)
                    self.fields = dict.fromkeys(self.fields, b"wrong")

                writer.write = tampered  # type: ignore[method-assign]
                yield writer

    table = writes([("authors/a", 1, {"name": "Ann"})])
    touches: list[Event] = [Touch("Names", "names/a", 7), Touch("Names", "names/x", 7), Touch("Other", "others/x", 7)]
    settings = Settings(coalesce_seconds=0, from_empty=True)
    _, _, sink = lives([Live([table, touches])], sink=Tampered(), settings=settings)
    found = [(row.path, row.stamp.version, row.fields) for row in sink.history]
    assert found == [("names/a", 1, ANN), ("names/a", 7, ANN), ("names/x", 7, None)]


def test_s13_where_a_sink_remembers_nothing_the_state_does(tmp_path: Path) -> None:
    class Topic(WatchedSink):
        keeps_controls: ClassVar[bool] = False

        def controls(self) -> dict[str, Control]:
            return {}

    source = [writes([("authors/a", 1, {"name": "Ann"})])]
    settings = Settings(coalesce_seconds=0, from_empty=True)
    _, _, sink = lives([Live(source)], tmp_path / "s", sink=Topic(), settings=settings)
    lives([Live([*source, writes([("authors/a", 2, {"name": "Bob"})])])], tmp_path / "s", sink=sink)
    assert [(row.stamp.generation, row.fields) for row in sink.history] == [(1, ANN), (1, ANN), (1, BOB)]


class Paced(WatchedSink):
    """Takes a row only every fourth time that it is asked to."""

    @contextmanager
    def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
        with super().stream(views) as writer:
            write, turns = writer.write, dict[str, int]()

            def paced(rows: Sequence[tuple[View, EncodedRow]]) -> None:
                for _, row in rows:
                    turns[row.path] = turns.get(row.path, 3) + 1
                writer.held = (
                    frozenset(path for _, (path, *_) in rows if turns[path] % 4) if writer.may_hold else frozenset()
                )
                newest = {row.path: (view, row) for view, row in rows if row.path not in writer.held}
                write(list(newest.values()))

            writer.write = paced  # type: ignore[method-assign]
            yield writer


def test_s17_a_row_is_written_once_in_a_while_and_the_newest_wins(tmp_path: Path) -> None:
    table = [(f"authors/{name}", version, {"name": f"{name}{version}"}) for version in range(1, 9) for name in "ab"]
    settings = Settings(coalesce_seconds=0, from_empty=True)
    source = Live([writes([one]) for one in table])
    _, _, sink = lives([source], tmp_path / "s", sink=Paced(), settings=settings)
    written = [row.stamp.version for row in sink.history if row.path == "names/a"]
    assert written[0] == 1, "the first goes at once"
    assert written[-1] == 8, "the last one comes in the end"
    assert len(written) < 8, "not each of them"
    assert sink.fields == {"names/a": b'{"name":"a8"}', "names/b": b'{"name":"b8"}'}
    assert source.told[-1] == "16"


def test_s17_what_waits_is_not_lost_by_a_kill(tmp_path: Path) -> None:
    sink = Paced()
    settings = Settings(coalesce_seconds=0, from_empty=True)
    table = [("authors/a", version, {"name": f"a{version}"}) for version in (1, 2)]

    class Dies(Live):
        def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
            yield from list(super().follow(position) if position else zip(self.batches, "12", strict=True))
            raise Killed

    with pytest.raises(Killed):
        lives([Dies([writes([one]) for one in table])], tmp_path / "s", sink=sink, settings=settings)
    assert sink.fields == {"names/a": b'{"name":"a1"}'}
    lives([Live([[], []])], tmp_path / "s", sink=sink)
    assert sink.fields == {"names/a": b'{"name":"a2"}'}


def test_s14_a_refused_row_is_a_dead_letter_and_given_again_at_its_next_change(tmp_path: Path) -> None:
    class Refusing(WatchedSink):
        """Takes no row of Ann."""

        @contextmanager
        def stream(self, views: Sequence[View]) -> Iterator[StreamWriter]:
            with super().stream(views) as writer:
                write = writer.write

                def picky(rows: Sequence[tuple[View, EncodedRow]]) -> list[DeadLetter]:
                    write([(view, row) for view, row in rows if row.fields != ANN])
                    refused = [row for _, row in rows if row.fields == ANN]
                    self.fields.update((row.path, b"?") for row in refused)
                    return [
                        DeadLetter(stage="write", code="refused", message="no Ann", path=row.path) for row in refused
                    ]

                writer.write = picky  # type: ignore[method-assign]
                yield writer

    table = writes(
        [("authors/a", 1, {"name": "Bob"}), ("authors/a", 2, {"name": "Ann"}), ("authors/a", 3, {"name": "Bob"})]
    )
    settings = Settings(coalesce_seconds=0, from_empty=True)
    rows, report, sink = lives([Live([[one] for one in table])], tmp_path / "s", sink=Refusing(), settings=settings)
    assert (rows, report.dead_letters) == ({"names/a": BOB}, 1)
    assert [row.stamp.version for row in sink.history] == [1, 3]


def test_s22_a_program_that_was_down_too_long_needs_a_snapshot(tmp_path: Path) -> None:
    def source() -> Live:
        one = Live([writes([("authors/a", 1, {"name": "Ann"})])])
        one.retention_seconds = 3_600.0
        return one

    def snapshot(version: int, name: str) -> Batches:
        return Batches("snapshot", [writes([("authors/a", version, {"name": name})])])

    _, _, sink = lives([snapshot(1, "Ann"), source()], tmp_path / "s")
    lives([source()], tmp_path / "s", sink=sink, now=4_500)
    with pytest.raises(UsageError, match=r"expected a program that was down for at most 1 h, .*, got 2 h; fix: add"):
        lives([source()], tmp_path / "s", sink=sink, now=4_500 + 7_200)
    rows, _, _ = lives([snapshot(5, "Bob"), source()], tmp_path / "s", sink=sink, now=4_500 + 7_200)
    assert rows == {"names/a": BOB}, "the snapshot was read again"


def test_s19_commits_that_wait_are_whole_when_nothing_comes_any_more() -> None:
    settings = Settings(coalesce_seconds=0, lateness_seconds=10, from_empty=True)
    source = Live([writes([("authors/a", 1, {"name": "Ann"})])])
    assert lives([source], settings=settings, rounds=4)[0] == {}
    source = Live([writes([("authors/a", 1, {"name": "Ann"})])])
    assert lives([source], settings=settings, rounds=60)[0] == {"names/a": ANN}


def test_several_unbounded_sources_are_followed_side_by_side() -> None:
    one, two = (Live([writes([(f"authors/{name}", 1, {"name": "Ann"})])], name=name) for name in "ab")
    found = {"names/a": ANN, "names/b": ANN}
    rows: dict[str, bytes | None] = {}
    sink = WatchedSink()
    lives([one, two], sink=sink, rounds=2_000, settings=Settings(coalesce_seconds=0, from_empty=True))
    rows = dict(sink.fields)
    assert rows == found
    assert "1" in one.told
    assert "1" in two.told
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"live:a", "live:b"})


class Failing(Live):
    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        yield [], "0"
        raise BoilerBeamError("live: it broke")


def test_one_of_several_that_fails_ends_all() -> None:
    sources = [Live([], name="a"), Failing([], name="b")]
    never: Callable[[], bool] = lambda: False  # noqa: E731
    with pytest.raises(BoilerBeamError, match="live: it broke"):
        list(gather(sources, {}, 0, 10, Clock(), never))
    assert {thread.name for thread in threading.enumerate()}.isdisjoint({"live:a", "live:b"})
