"""The transforms in small pipelines: partitions, memory and bad inputs change no row; labels are stable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.runners.pipeline_context import PipelineContext  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from boiler_beam.connectors import (  # noqa: E402
    BackfillWriter,
    Control,
    Source,
    open_sink,
    open_source,
    register,
)
from boiler_beam.connectors.memory import MemorySink  # noqa: E402
from boiler_beam.connectors.sqlite import SqliteSink  # noqa: E402
from boiler_beam.engine import backfill  # noqa: E402
from boiler_beam.events import Change, DeadLetter, EncodedRow, Stamp, View  # noqa: E402
from boiler_beam.plan import PlanName, load_plan  # noqa: E402
from pipelines.beam import run_backfill  # noqa: E402
from transforms import ComputeRows, Destination, ReadChanges, WriteRows  # noqa: E402

VIEWS = PlanName(
    tuple(f"boiler_beam.samples.meeting:{name}" for name in ("MeetingSession", "UserMeetings", "OrganizationSummary"))
)


@register
class Dated(Source):
    """The sample as of a time: what a split says of it is all that a worker knows."""

    scheme = "sample-as-of"

    def splits(self) -> Sequence[str]:
        self.read_time = self.read_time or 4_000_000_000_000_000
        return [str(self.read_time)]

    def read(self, split: str) -> Iterator[Change | DeadLetter]:
        assert self.rest in ("", split), "read as of another time"
        return open_source("sample:").read_all()


@register
class Asking(SqliteSink):
    """Asks a stream for rows, and not all of them came right."""

    scheme = "sqlite-asking"

    @contextmanager
    def backfill(self, views: Sequence[View]) -> Iterator[BackfillWriter]:
        yield _Asking()


class _Asking(BackfillWriter):
    def write(self, view: View, row: EncodedRow) -> None:
        self.touched += 1

    def delete(self, view: View, path: str, stamp: Stamp) -> None:
        self.touched += 1

    def commit(self, controls: Mapping[str, Control]) -> None:
        self.drift = 2


def splits(uri: str) -> list[tuple[str, str]]:
    return [(uri, split) for split in open_source(uri).splits()]


def backfilled(pipeline: Any, uri: str, destination: Destination, **options: Any) -> None:
    """Adds the pipeline of the command line."""
    computed = (
        pipeline | "ReadChanges" >> ReadChanges(splits(uri)) | "ComputeRows" >> ComputeRows(*VIEWS.views, **options)
    )
    computed | "WriteRows" >> WriteRows(VIEWS, destination)


def rows_of(sink: Any) -> dict[str, bytes]:
    return {row.path: row.fields for view in load_plan(VIEWS).views for row in sink.current_rows(view.target)}


@pytest.mark.parametrize(
    ("partitions", "memory_bytes", "in_memory"),
    [(1, 1 << 20, False), (1, 1 << 20, True), (5, 1 << 20, False), (2, 500, False)],
)
def test_partitions_and_memory_change_no_row(
    tmp_path: Path, partitions: int, memory_bytes: int, in_memory: bool
) -> None:
    expected = MemorySink()
    backfill(load_plan(VIEWS), [open_source("sample:")], expected, pytest.fail)
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        options = {"partitions": partitions, "memory_bytes": memory_bytes, "in_memory": in_memory}
        backfilled(pipeline, "sample:", destination, **options)
    assert rows_of(open_sink(destination.sink)) == rows_of(expected)
    assert len(rows_of(expected)) == 13
    assert not (tmp_path / "dead.jsonl").exists()


def test_read_changes_gives_changes_and_what_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"path": "users/u1", "version": 1, "fields": {}}\nbroken\n{"path": "unread/x", "version": 2, "fields": null}\n'
    )
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        read = pipeline | ReadChanges(splits(f"file:{tmp_path}/x.jsonl"))
        expected = [Change("users/u1", 1, {}), Change("unread/x", 2, None)]
        assert_that(read.changes, equal_to(expected), label="changes")
        letters = read.dead_letters | "Codes" >> beam.Map(lambda letter: letter.code)
        assert_that(letters, equal_to(["malformed_line"]), label="letters")


def test_labels_come_from_the_plan() -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    destination = Destination("sqlite:rows.db", "jsonl:dead.jsonl")
    backfilled(pipeline, "sample:", destination, partitions=1)
    components = pipeline.to_runner_api().components
    names = {name.unique_name for name in components.transforms.values()}
    stages = {name.split("/")[1] for name in names if name.endswith("/Join")}
    assert stages == {"Newest", "Level1", "Rows"}
    assert {"ReadChanges/Read", "ComputeRows/Result/Rows", "WriteRows/Gather", "WriteRows/Write"} <= names
    context = PipelineContext(components)
    coders = [context.coders[one.coder_id] for one in components.pcollections.values()]
    assert not [one for one in coders if "Pickle" in type(one).__name__ or "FastPrimitives" in type(one).__name__], (
        coders
    )


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("broken\n")
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl", dry_run=True)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        backfilled(pipeline, f"file:{tmp_path}/x.jsonl", destination, partitions=1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_torn_line_keeps_rows_from_being_pruned(tmp_path: Path) -> None:
    lines = (Path(open_source("sample:").rest)).read_text().splitlines(keepends=True)  # type: ignore[attr-defined]
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl")
    for texts in (lines, [*lines[:-1], lines[-1][:40]]):  # the last one is a meeting
        (tmp_path / "x.jsonl").write_text("".join(texts))
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            backfilled(pipeline, f"file:{tmp_path}/x.jsonl", destination, partitions=2)
    assert "meeting_sessions/m4" in rows_of(open_sink(destination.sink))


@pytest.mark.parametrize("asked", [None, 4_100_000_000_000_000])
def test_s16_rows_have_the_time_as_of_which_the_sources_were_read(tmp_path: Path, asked: int | None) -> None:
    """That of the source where nobody asks for one; else the one asked for, as of which it is read, too."""
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl", read_time=asked)
    run_backfill(load_plan(VIEWS), [f"sample-as-of:{asked or ''}"], destination, runner="DirectRunner")
    sink = open_sink(destination.sink)
    versions = {row.stamp.version for view in load_plan(VIEWS).views for row in sink.current_rows(view.target)}
    assert versions == {asked or 4_000_000_000_000_000}


def test_s16_a_report_tells_of_rows_that_a_stream_was_asked_for(tmp_path: Path) -> None:
    destination = Destination(f"sqlite-asking:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl")
    report = run_backfill(load_plan(VIEWS), ["sample:"], destination, runner="DirectRunner")
    assert (report.touched, report.drift) == (13, 2)
