"""Rules of every sink: a backfill is atomic, fields are unchanged, and the newest stamp wins."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boiler_beam.connectors import Control, Sink, open_sink
from boiler_beam.errors import UsageError
from boiler_beam.events import EncodedRow, Stamp, View
from boiler_beam.values import encode_fields
from tests.helpers.values import fields

pytest.importorskip("pyarrow")
SCHEMES = {"jsonl": "rows.jsonl", "sqlite": "rows.db", "parquet": "rows"}
ONE, TWO = View("One", "ones/{id}", ("a", "b")), View("Two", "ones/{id}/twos", ("c",))
CONTROL = Control(generation=1, fingerprint="f")


@pytest.fixture(params=SCHEMES, name="uri")
def _uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:{tmp_path}/deep/{SCHEMES[request.param]}"


def row(path: str, version: int = 1, **values: object) -> EncodedRow:
    return EncodedRow(path, Stamp(1, version, 0), encode_fields(values))


def put(sink: Sink, rows: Sequence[EncodedRow], deleted: Sequence[str] = ()) -> None:
    with sink.backfill([ONE]) as writer:
        for one in rows:
            writer.write(ONE, one)
        for path in deleted:
            writer.delete(ONE, path, Stamp(1, 9, 0))
        writer.commit({"One": CONTROL})


def standing(sink: Sink, view: View = ONE) -> list[EncodedRow]:
    return sorted(sink.current_rows(view))


def test_a_new_sink_is_empty_and_makes_nothing(uri: str, tmp_path: Path) -> None:
    sink = open_sink(uri)
    assert sink.controls() == {}
    assert standing(sink) == []
    assert list(tmp_path.iterdir()) == []


def test_rows_stand_after_the_commit_and_none_before(uri: str) -> None:
    put(open_sink(uri), [row("ones/1", a=1, b="x"), row("ones/2", a=None, b=[1.5])])
    sink = open_sink(uri)
    assert standing(sink) == [row("ones/1", a=1, b="x"), row("ones/2", a=None, b=[1.5])]
    with sink.backfill([ONE]) as writer:
        writer.write(ONE, row("ones/3"))
        assert standing(open_sink(uri)) == standing(sink)
    assert [one.path for one in standing(open_sink(uri))] == ["ones/1", "ones/2"]
    assert sink.controls() == {"One": CONTROL}


def test_what_is_neither_written_nor_deleted_stays_with_its_stamp(uri: str) -> None:
    sink = open_sink(uri)
    put(sink, [row("ones/1", 1, a=1), row("ones/2", 1, a=2), row("ones/3", 1, a=3)])
    put(sink, [row("ones/1", 5, a=9)], deleted=["ones/3"])
    assert standing(open_sink(uri)) == [row("ones/1", 5, a=9), row("ones/2", 1, a=2)]


def test_other_views_stay(uri: str) -> None:
    sink = open_sink(uri)
    put(sink, [row("ones/1", a=1)])
    two = View("Two", "twos/{id}", ("c",))
    with sink.backfill([two]) as writer:
        writer.write(two, row("twos/1", c=1))
        writer.commit({"Two": Control(generation=4, fingerprint="g")})
    assert standing(sink) == [row("ones/1", a=1)]
    assert standing(sink, two) == [row("twos/1", c=1)]
    assert sink.controls() == {"One": CONTROL, "Two": Control(generation=4, fingerprint="g")}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(rows=st.lists(fields(), max_size=4))
def test_fields_come_back_as_they_were(uri: str, rows: list[dict[str, object]]) -> None:
    sink = open_sink(uri)
    given_rows = [
        row(f"ones/{number}", **{f"p{key}": value for key, value in one.items()}) for number, one in enumerate(rows)
    ]
    put(
        sink,
        given_rows,
        deleted=[one.path for one in standing(sink) if one.path not in {new.path for new in given_rows}],
    )
    assert standing(open_sink(uri)) == given_rows


def test_the_second_writer_is_refused(uri: str) -> None:
    first, second = open_sink(uri), open_sink(uri)
    with first.backfill([ONE]), pytest.raises(UsageError, match="its only writer"), second.backfill([ONE]):
        pass
    put(second, [row("ones/1", a=1)])
    assert len(standing(first)) == 1


def test_an_address_is_needed(uri: str) -> None:
    with pytest.raises(UsageError, match="behind the scheme"):
        open_sink(uri.partition(":")[0] + ":")


def test_something_else_in_its_place_is_refused(uri: str) -> None:
    path = Path(uri.partition(":")[2])
    path.parent.mkdir()
    if uri.startswith("parquet"):
        path.touch()
    else:
        path.mkdir()
    with pytest.raises(UsageError):
        put(open_sink(uri), [row("ones/1", a=1)])
    assert [one.name for one in path.parent.iterdir()] == [path.name]


NOBODY = 65534


def test_a_read_only_folder_is_refused(uri: str) -> None:
    scheme, _, path = uri.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)  # root's rights are not looked at
        try:
            with pytest.raises(UsageError, match="fix"):
                put(open_sink(f"{scheme}:{folder}/{Path(path).name}"), [row("ones/1", a=1)])
        finally:
            os.seteuid(user)
        assert os.listdir(folder) == []


FILL = """
import sys
from boiler_beam.connectors import open_sink
from tests.boiler_beam.connectors.test_sinks import ONE, CONTROL, row
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with open_sink(sys.argv[1]).backfill([ONE]) as writer:
    for number in range(20_000):
        writer.write(ONE, row(f"ones/{number}", a=f"{number * 7919 % 100_003:x}" * 20))
    writer.commit({"One": CONTROL})
"""


def test_a_full_disk_leaves_the_old_rows(uri: str) -> None:
    """A limit on the size of files, which makes a write fail like a full disk."""
    put(open_sink(uri), [row("ones/1", a=1)])
    done = subprocess.run([sys.executable, "-c", FILL, uri], capture_output=True, text=True, check=False)
    assert "could not be written" in done.stderr.splitlines()[-1], done.stderr
    assert standing(open_sink(uri)) == [row("ones/1", a=1)]
    put(open_sink(uri), [row("ones/2", a=2)])
    assert standing(open_sink(uri)) == [row("ones/1", a=1), row("ones/2", a=2)]


KILL = """
import os, signal, sys
from boiler_beam.connectors import open_sink
from tests.boiler_beam.connectors.test_sinks import ONE, row
with open_sink(sys.argv[1]).backfill([ONE]) as writer:
    for number in range(3_000):
        writer.write(ONE, row(f"ones/{number}", a="x" * 100))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_rows(uri: str) -> None:
    put(open_sink(uri), [row("ones/1", a=1)])
    done = subprocess.run([sys.executable, "-c", KILL, uri], check=False)
    assert done.returncode == -9
    assert standing(open_sink(uri)) == [row("ones/1", a=1)]
    put(open_sink(uri), [row("ones/2", a=2)])
    assert [one.path for one in standing(open_sink(uri))] == ["ones/1", "ones/2"]


def test_jsonl_is_a_log(tmp_path: Path) -> None:
    lines = [
        '{"path":"ones/1","generation":1,"version":2,"seq":0,"fields":{"a":1}}',
        '{"path":"ones/1","generation":1,"version":1,"seq":9,"fields":{"a":2}}',
        '{"path":"ones/2","generation":1,"version":1,"seq":0,"fields":{"a":3}}',
        '{"path":"ones/2","generation":1,"version":1,"seq":0,"fields":{"a":4}}',
        '{"path":"ones/3","generation":1,"version":1,"seq":0,"fields":{"a":5}}',
        '{"path":"ones/3","generation":1,"version":1,"seq":1,"fields":null}',
        '{"path":"ones/4","gener',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    assert standing(open_sink(f"jsonl:{tmp_path}/rows.jsonl")) == [row("ones/1", 2, a=1), row("ones/2", 1, a=4)]


def test_jsonl_refuses_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(UsageError, match=r"rows\.jsonl:1: expected a row"):
        standing(open_sink(f"jsonl:{tmp_path}/rows.jsonl"))


def test_sqlite_refuses_a_file_or_table_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello, this is no database, and long enough to tell\n" * 20)
    with pytest.raises(UsageError, match="expected a SQLite database"):
        open_sink(f"sqlite:{tmp_path}/text.db").controls()
    with sqlite3.connect(tmp_path / "mine.db") as database:
        database.execute("CREATE TABLE One (mine TEXT)")
    database.close()
    with pytest.raises(UsageError, match="expected the table One to have the columns path"):
        put(open_sink(f"sqlite:{tmp_path}/mine.db"), [row("ones/1", a=1)])


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    put(open_sink(f"parquet:{tmp_path}"), [row("ones/1", a=1, b=[1], seq="s"), row("ones/2", a=None, seq="t")])
    table = pq.read_table(tmp_path / "One.parquet")
    assert table.schema.names == ["path", "generation", "version", "seq", "a", "b", "fields.seq"]
    assert [table.schema.field(name).type for name in ("version", "a", "b")] == [pa.int64(), pa.int64(), pa.string()]
    assert table.column("b").to_pylist() == ["[1]", None]
    assert len(standing(open_sink(f"parquet:{tmp_path}"))) == 2


def test_a_crash_between_control_and_rows_is_fixed_by_the_next_run(tmp_path: Path) -> None:
    """Control data is written first; after a crash the rows have an older generation and are written again."""
    from boiler_beam.connectors import jsonl

    sink = open_sink(f"jsonl:{tmp_path}/rows.jsonl")
    put(sink, [row("ones/1", a=1)])
    jsonl.write_controls(
        sink.uri, f"{tmp_path}/rows.jsonl.control.jsonl", {"One": Control(generation=2, fingerprint="g")}
    )
    assert sink.controls()["One"].generation == 2
    assert standing(sink)[0].stamp.generation == 1


@pytest.mark.parametrize("scheme", ["sqlite", "parquet"])
def test_a_view_whose_name_differs_by_case_from_one_that_is_there_is_refused(scheme: str, tmp_path: Path) -> None:
    uri = f"{scheme}:{tmp_path}/{SCHEMES[scheme]}"
    put(open_sink(uri), [row("ones/1", a=1)])
    other = View("ONE", "others/{id}", ("a",))
    place = {"sqlite": "the table ONE", "parquet": r"ONE\.parquet"}[scheme]
    there = {"sqlite": "One", "parquet": r"One\.parquet"}[scheme]
    said = rf"expected {place} to differ from existing names not only by case, got {there}, which holds "
    with pytest.raises(UsageError, match=said):
        standing(open_sink(uri), other)
    with pytest.raises(UsageError, match=said), open_sink(uri).backfill([other]):
        pass
    if scheme == "sqlite":
        with pytest.raises(UsageError, match=said), open_sink(uri).stream([other]):
            pass
        two = [TWO, View("TWO", "x/{id}", ())]
        with pytest.raises(UsageError, match=r"the table TWO .*, got Two, "), open_sink(uri).backfill(two):
            pass
    assert standing(open_sink(uri)) == [row("ones/1", a=1)]


def test_a_writer_of_sqlite_waits_for_who_holds_the_file_for_a_moment(tmp_path: Path) -> None:
    """A reader that closes the file, as the last one, locks it to remove SQLite's log."""
    sink = open_sink(f"sqlite:{tmp_path}/rows.db")
    put(sink, [row("ones/1", a=1)])
    with closing(sqlite3.connect(tmp_path / "rows.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        try:
            with sink.stream([ONE]):
                assert not other.in_transaction
        finally:
            release.join()
