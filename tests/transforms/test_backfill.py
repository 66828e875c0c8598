"""The transforms in small pipelines: partitions, memory and bad inputs change no row; labels are stable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import FnApiRunner  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from boiler_beam.connectors import open_sink, open_source  # noqa: E402
from boiler_beam.engine import backfill  # noqa: E402
from boiler_beam.engine.memory import MemorySink  # noqa: E402
from boiler_beam.plan import load_plan  # noqa: E402
from boiler_beam.steps.messages import decode_pack, partition_of  # noqa: E402
from transforms import Backfill, Destination, ReadChanges  # noqa: E402

VIEWS = tuple(
    f"boiler_beam.samples.meeting:{name}" for name in ("MeetingSession", "UserMeetings", "OrganizationSummary")
)


def splits(uri: str) -> list[tuple[str, str]]:
    return [(uri, split) for split in open_source(uri).splits()]


def rows_of(sink: Any) -> dict[str, bytes]:
    return {row.path: row.fields for view in load_plan(VIEWS).views for row in sink.standing(view.target)}


@pytest.mark.parametrize(("partitions", "memory_bytes"), [(1, 1 << 20), (5, 1 << 20), (2, 500)])
def test_partitions_and_memory_change_no_row(tmp_path: Path, partitions: int, memory_bytes: int) -> None:
    expected = MemorySink()
    backfill(load_plan(VIEWS), [open_source("sample:")], expected, pytest.fail)
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | Backfill(VIEWS, splits("sample:"), destination, partitions=partitions, memory_bytes=memory_bytes)
    assert rows_of(open_sink(destination.sink)) == rows_of(expected)
    assert len(rows_of(expected)) == 13
    assert not (tmp_path / "dead.jsonl").exists()


def test_read_changes_packs_them_by_the_partition_of_their_document(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"path": "users/u1", "version": 1, "fields": {}}\nbroken\n{"path": "unread/x", "version": 2, "fields": {}}\n'
    )

    def unpacked(element: tuple[int, bytes]) -> list[tuple[int, str]]:
        partition, pack = element
        return [(partition, type(message).__name__) for message in decode_pack(pack)]

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        read = pipeline | ReadChanges(VIEWS, splits(f"file:{tmp_path}/x.jsonl"), 4)
        changes = read["level0"] | "Changes" >> beam.FlatMap(unpacked)
        others = read["write"] | "Others" >> beam.FlatMap(unpacked)
        assert_that(changes, equal_to([(partition_of("users/u1", 4), "Observed")]), label="changes")
        assert_that(others, equal_to([(0, "Failure"), (0, "Statistics")]), label="others")


def test_labels_come_from_the_plan() -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    destination = Destination("sqlite:rows.db", "jsonl:dead.jsonl")
    pipeline | "Backfill" >> Backfill(VIEWS, [], destination, partitions=1)
    components = pipeline.to_runner_api().components
    names = {name.unique_name for name in components.transforms.values()}
    stages = {name.split("/")[1] for name in names if name.count("/") == 2 and name.endswith("/Join")}
    assert stages == {"Newest", "Level1", "Rows"}
    assert {"Backfill/ReadChanges/Read", "Backfill/WriteRows/Gather", "Backfill/WriteRows/Write"} <= names
    coders = {components.coders[one.coder_id].spec.urn for one in components.pcollections.values()}
    assert not any("pickle" in urn for urn in coders), coders


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("broken\n")
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl", dry_run=True)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | Backfill(VIEWS, splits(f"file:{tmp_path}/x.jsonl"), destination, partitions=1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_torn_line_keeps_rows_from_being_pruned(tmp_path: Path) -> None:
    lines = (Path(open_source("sample:").rest)).read_text().splitlines(keepends=True)  # type: ignore[attr-defined]
    destination = Destination(f"sqlite:{tmp_path}/rows.db", f"jsonl:{tmp_path}/dead.jsonl")
    for texts in (lines, [*lines[:-1], lines[-1][:40]]):  # the last one is a meeting
        (tmp_path / "x.jsonl").write_text("".join(texts))
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            pipeline | Backfill(VIEWS, splits(f"file:{tmp_path}/x.jsonl"), destination, partitions=2)
    assert "meeting_sessions/m4" in rows_of(open_sink(destination.sink))
