"""`boiler_beam.follow`: reports, rows, ends and errors of a stream in a thread of this process."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

import boiler_beam as bb
from boiler_beam.connectors import Source, StreamWriter
from boiler_beam.connectors.memory import MemorySink
from boiler_beam.errors import BoilerBeamError, UsageError
from boiler_beam.events import Change, DeadLetter, Event
from boiler_beam.program import DeadLettersFound, TransactionReport
from boiler_beam.samples.meeting import MeetingSession
from tests.helpers.histories import ListSource, change, lines
from tests.pipelines.streaming_views import Card, Table

ROOT = Path(__file__).resolve().parents[3]
TEAM = ("teams/t1", 1, {"name": "Reds"})


def player(number: int, version: int, points: object = 1) -> tuple[str, int, dict[str, object]]:
    return f"players/p{number}", version, {"team": "teams/t1", "points": points}


class Pushed(Source):
    """An unbounded source of the changes that a test puts into a queue; None ends the wait without one."""

    scheme: ClassVar[str] = "pushed"
    is_bounded: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__("")
        self.pushed: queue.Queue[Sequence[Event]] = queue.Queue()
        self.taken = threading.Semaphore(0)

    def splits(self) -> Sequence[str]:
        return []

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        return iter(())

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        number = int(position or 0)
        while True:
            try:
                batch = self.pushed.get(timeout=0.01)
            except queue.Empty:
                batch = []
            number += len(batch)
            yield batch, str(number)
            if batch:
                self.taken.release()

    def push(self, *table: tuple[str, int, object]) -> None:
        self.pushed.put([change(*line) for line in table])


def following(source: Source | str, sink: MemorySink | str, **options: object) -> bb.program.Running:  # type: ignore[name-defined]
    given = {"sources": source, "sink": sink, "state": "memory:", "coalesce_seconds": 0, "from_empty": True}
    return bb.follow([Card, Table], **{**given, **options})  # type: ignore[arg-type]


def test_one_report_a_transaction_with_its_rows(tmp_path: Path) -> None:
    source, sink = Pushed(), MemorySink()
    source.push(TEAM, player(1, 2))
    with following(source, sink) as running:
        reports = iter(running)
        ready = next(reports)
        assert (ready.number, ready.changes, ready.rows, ready.total.is_ready) == (1, 0, (), True)
        first = next(reports)
        assert (first.number, first.changes, first.written, first.deleted) == (2, 2, 2, 0)
        rows = {row.path: row for row in first.rows}
        assert rows["cards/p1"].fields == {"label": "Reds 50"}
        assert (rows["cards/p1"].view, rows["cards/p1"].version, rows["cards/p1"].stamp) == ("Card", 2, (1, 2, 2))
        assert rows["tables/t1"].fields == {"points": 1, "best": 1}
        assert sink.written["cards/p1"].fields == rows["cards/p1"].data, "the sink has it before the report"
        source.push(("players/p1", 3, None))
        second = next(reports)
        assert {row.path: row.fields for row in second.rows} == {
            "cards/p1": None,
            "tables/t1": {"points": 0, "best": None},
        }
        assert (second.changes, second.written, second.deleted, second.total.changes) == (1, 1, 1, 3)
        assert str(second) == "transaction 3: 1 changes, 1 rows written, 1 deleted, 0 dead letters"
        running.stop()
        assert list(reports) == []
    assert not running.is_running
    assert (running.report.changes, running.report.written, running.report.deleted) == (3, 3, 1)
    assert "cards/p1" not in sink.written


def test_bounded_sources_end_by_themselves(tmp_path: Path) -> None:
    with bb.follow(MeetingSession, sources="sample:", sink=f"sqlite:{tmp_path}/rows.db") as running:
        assert running.is_bounded
        assert running.state == "memory:"
        reports = list(running)
    assert sum(report.changes for report in reports) == 24
    assert sorted(row.path for report in reports for row in report.rows) == [
        f"meeting_sessions/m{n}" for n in (1, 2, 3, 4)
    ]
    assert reports[-1].total.is_ready
    assert str(running.report).startswith("24 documents, 24 changes, 4 rows, 0 dead letters, ")


class OneByOne(ListSource):
    """A bounded source that yields each change as a batch."""

    def follow(self, position: str | None) -> Iterator[tuple[Sequence[Event], str]]:
        for number in range(int(position or 0), len(self.known)):
            yield [self.known[number]], str(number + 1)


def test_leaving_the_block_reads_what_there_is() -> None:
    """No loop: more transactions than reports are kept, and all rows are in the sink."""
    source, sink = OneByOne([change(*line) for line in (TEAM, *(player(n, 2 + n) for n in range(2_000)))]), MemorySink()
    with following(source, sink) as running:
        pass
    assert len(sink.written) == 2_001
    assert running.report.changes == 2_001


def test_after_stop_leaving_the_block_does_not_read_on() -> None:
    source = OneByOne([change(*line) for line in (TEAM, *(player(n, 2 + n) for n in range(2_000)))])
    with following(source, MemorySink()) as running:
        running.stop()
    assert running.report.changes < 2_001


def test_leaving_the_block_ends_an_unbounded_source_and_the_next_run_goes_on(tmp_path: Path) -> None:
    changes, uri = tmp_path / "changes.jsonl", f"tail:{tmp_path}/changes.jsonl"
    options = {"state": f"sqlite:{tmp_path}/state.db"}
    seen: list[str] = []
    for table in ([TEAM, player(1, 2)], [player(2, 3)]):
        with changes.open("a") as file:
            file.write(lines(table))
        with following(uri, f"jsonl:{tmp_path}/rows.jsonl", **options) as running:
            for report in running:
                seen += [row.path for row in report.rows]
                if table[-1][0].replace("players", "cards") in seen:
                    break
    assert set(seen) == {"cards/p1", "cards/p2", "tables/t1"}
    assert (running.report.documents, running.report.changes) == (3, 1)


def test_stop_from_another_thread_ends_the_loop() -> None:
    source = Pushed()
    source.push(TEAM)
    with following(source, MemorySink()) as running:
        for _ in running:
            thread = threading.Thread(target=running.stop)
            thread.start()
            thread.join()
    assert running.wait() is running.report, "after the end there is nothing to wait for"


def test_a_slow_loop_misses_nothing() -> None:
    """While somebody iterates, the stream waits: it can't be further than the reports that wait."""
    source = Pushed()
    for number in range(200):
        source.push(player(number, number + 1))
    with following(source, MemorySink()) as running:
        numbers, changes = [], 0
        for report in running:
            numbers.append(report.number)
            changes += report.changes
            if changes == 200:
                break
            assert running.report.changes - changes <= 18
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_transaction_is_given_to_on_report_in_the_streams_thread() -> None:
    source, given, threads = Pushed(), list[TransactionReport](), set[str]()

    def take(report: TransactionReport) -> None:
        given.append(report)
        threads.add(threading.current_thread().name)

    for number in range(100):
        source.push(player(number, number + 1))
    with following(source, MemorySink(), on_report=take):
        for _ in range(100):
            assert source.taken.acquire(timeout=60)
    assert [report.number for report in given] == list(range(1, len(given) + 1))
    assert sum(report.changes for report in given) == 100
    assert threads == {"boiler_beam.follow"}


def test_what_on_report_raises_is_raised() -> None:
    source = Pushed()
    source.push(TEAM)

    def refuse(report: TransactionReport) -> None:
        raise RuntimeError("not this one")

    with (
        pytest.raises(RuntimeError, match="not this one"),
        following(source, MemorySink(), on_report=refuse) as running,
    ):
        running.wait()


class Broken(MemorySink):
    """A sink that can't be written."""

    def stream(self, views: object) -> object:  # type: ignore[override]
        raise NotImplementedError


class Full(MemorySink):
    """A sink whose disk is full."""

    def stream(self, views: Sequence[object]) -> object:  # type: ignore[override]
        opened = super().stream(views)  # type: ignore[arg-type]

        class Writer:
            def __enter__(self) -> StreamWriter:
                writer = opened.__enter__()
                writer.write = self.write  # type: ignore[method-assign]
                return writer

            def write(self, rows: object) -> None:
                raise BoilerBeamError("memory: could not be written; fix: free space")

            def __exit__(self, *error: object) -> None:
                opened.__exit__(*error)  # type: ignore[arg-type]

        return Writer()


def test_an_error_of_the_stream_is_raised_by_the_loop() -> None:
    source = Pushed()
    source.push(TEAM)
    with pytest.raises(BoilerBeamError, match="free space"), following(source, Full()) as running:
        for _ in running:
            pass


def test_an_error_of_the_stream_is_raised_by_leaving_the_block() -> None:
    source = Pushed()
    source.push(TEAM)
    with pytest.raises(BoilerBeamError, match="free space"), following(source, Full()):
        pass


def test_an_error_of_the_stream_is_not_hidden_by_one_of_the_block() -> None:
    source = Pushed()
    source.push(TEAM)

    def fail() -> None:
        with following(source, Full()) as running:
            while running.is_running:
                pass
            raise ValueError("of the program")

    with pytest.raises(BoilerBeamError, match="free space") as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_an_error_of_the_block_ends_the_stream() -> None:
    with pytest.raises(ValueError, match="of the program"), following(Pushed(), MemorySink()) as running:
        raise ValueError("of the program")
    assert not running.is_running


def test_what_is_wrong_at_the_start_is_raised_at_the_start() -> None:
    is_inside = False
    with pytest.raises(UsageError, match="expected a snapshot to begin with"), following(Pushed(), MemorySink(), from_empty=False):  # fmt: skip
        is_inside = True
    assert not is_inside
    with pytest.raises(NotImplementedError), following("sample:", Broken()):
        is_inside = True
    assert not is_inside


def test_without_a_block_nothing_runs() -> None:
    running = following("sample:", MemorySink())
    with pytest.raises(UsageError, match=r"got one that was not started; fix: with follow\(...\):"):
        next(iter(running))


def test_options_are_checked_before_anything_runs() -> None:
    for options, said in (
        ({"consistency": "strong"}, "consistency: expected eventual or commit, got 'strong'"),
        ({"coalesce_seconds": -1}, "coalesce_seconds: expected seconds from 0 on, got -1"),
        ({"sources": "ftp:x"}, "ftp:x: expected the scheme of a source"),
    ):
        with pytest.raises(UsageError, match=said):
            following("sample:", MemorySink(), **options)


def test_strict_raises_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "changes.jsonl").write_text(lines([TEAM, player(1, 2, points="x"), player(2, 3)]))
    sink = MemorySink()
    options = {"strict": True, "dead_letter": f"jsonl:{tmp_path}/letters.jsonl"}
    with pytest.raises(DeadLettersFound, match="got 1 "), following(f"file:{tmp_path}/changes.jsonl", sink, **options) as running:  # fmt: skip
        letters = [report.dead_letters for report in running]
    assert sum(letters) == 1
    assert "cards/p2" in sink.written


def test_the_state_is_beside_the_sink(tmp_path: Path) -> None:
    running = bb.follow(Card, sources=f"tail:{tmp_path}/c.jsonl", sink=f"jsonl:{tmp_path}/rows.jsonl")
    assert running.state == f"sqlite:{tmp_path}/rows.jsonl.state.db"
    dry = bb.follow(Card, sources=f"tail:{tmp_path}/c.jsonl", sink=f"jsonl:{tmp_path}/rows.jsonl", dry_run=True)
    assert dry.state == "memory:"


PROGRAM = """
import sys, threading, time
import boiler_beam as bb
from tests.pipelines.streaming_views import Card

with bb.follow(Card, sources="tail:changes.jsonl", sink="jsonl:rows.jsonl", from_empty=True) as running:
    if sys.argv[1] == "loop":
        for report in running:
            if report.rows:
                print(*(row.path for row in report.rows), flush=True)
    else:
        print(*next([row.path for row in report.rows] for report in running if report.rows), flush=True)
        while True:
            time.sleep(0.1)
print("left", running.report.changes, running.is_running, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", ["loop", "sleep"])
def test_a_signal_leaves_the_block(tmp_path: Path, way: str, number: int) -> None:
    (tmp_path / "changes.jsonl").write_text(lines([TEAM, player(1, 2)]))
    (tmp_path / "program.py").write_text(PROGRAM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background hands its ignorance down
    process = subprocess.Popen(
        [sys.executable, "program.py", way], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "cards/p1\n"
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, said.splitlines()[-1]) == (0, "left 2 False")
    assert "cards/p1" in (tmp_path / "rows.jsonl").read_text()


STUCK = """
import signal
import boiler_beam as bb
from tests.pipelines.streaming_views import Card

def hang(report):
    print("stuck", flush=True)
    signal.sigwait([signal.SIGUSR1])

running = bb.follow(Card, sources="tail:changes.jsonl", sink="jsonl:rows.jsonl", from_empty=True, on_report=hang)
stop, running.stop = running.stop, lambda: (stop(), print("asked", flush=True))
with running:
    READ
"""
READ = "for report in running: pass"
IN_A_LOCK = """try:
        for report in running: pass
    except KeyboardInterrupt:
        raise RuntimeError("cannot release un-acquired lock")  # as Condition.wait does, where it is interrupted
"""


@pytest.mark.parametrize("read", [READ, IN_A_LOCK])
def test_a_second_signal_does_not_wait(tmp_path: Path, read: str) -> None:
    (tmp_path / "changes.jsonl").write_text(lines([TEAM]))
    (tmp_path / "program.py").write_text(STUCK.replace("READ", read))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, said.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")


def test_a_program_that_handles_signals_itself_keeps_its_handlers() -> None:
    def handle(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGINT, handle)
    try:
        with following(Pushed(), MemorySink()):
            assert signal.getsignal(signal.SIGINT) is handle
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_runs_in_a_thread_that_is_not_the_main_one() -> None:
    found: list[int] = []

    def work() -> None:
        with bb.follow(MeetingSession, sources="sample:", sink=MemorySink()) as running:
            found.append(running.wait().written)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [4]
