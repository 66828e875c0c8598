"""`ComputeRows` in pipelines of one's own: rows equal the oracle's in both modes, types and coders are Beam's own way."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
pytestmark = pytest.mark.beam

import apache_beam as beam  # noqa: E402
from apache_beam.coders import registry  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.testing.test_stream import TestStream as Events  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402
from apache_beam.transforms.window import FixedWindows, TimestampedValue  # noqa: E402
from apache_beam.typehints import TypeCheckError  # noqa: E402

from boiler_beam import DeclarationError, UsageError  # noqa: E402
from boiler_beam.beam.elements import (  # noqa: E402
    Changes,
    ElementCoder,
    WrittenRows,
)
from boiler_beam.beam.stateful import Behavior, _StatefulStep  # noqa: E402
from boiler_beam.connectors import open_source  # noqa: E402
from boiler_beam.events import Change, DeadLetter, Row, Touch  # noqa: E402
from boiler_beam.oracle import compute  # noqa: E402
from boiler_beam.plan import compile_plan  # noqa: E402
from boiler_beam.samples import meeting  # noqa: E402
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary, UserMeetings  # noqa: E402
from transforms import ComputeRows, DecodeChanges, ReadChangesFromPubSub, ReadFromFirestore, WriteToFirestore  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
VIEWS = (MeetingSession, UserMeetings, OrganizationSummary)
CHANGES = [
    Change(one.path, one.version, one.fields) for one in open_source("sample:").read_all() if isinstance(one, Change)
]
USER = {"firstName": "Ann", "lastName": "Gray", "organization": "elm"}
MOVED = Change("users/u1", 1 << 60, {**USER, "hearingAidRequested": True})


def newest(rows: list[Row]) -> dict[str, bytes]:
    """The rows that a sink would hold after it got these in any order."""
    standing: dict[str, Row] = {}
    for row in rows:
        if row.path not in standing or row.stamp >= standing[row.path].stamp:
            standing[row.path] = row
    return {path: row.data for path, row in standing.items() if row.data is not None}


def stages(pipeline: Any) -> set[str]:
    components = pipeline.to_runner_api().components
    return {name.unique_name for name in components.transforms.values()}


def is_stream(pipeline: Any) -> bool:
    return any(name.endswith("/Route") for name in stages(pipeline))


# Rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["backfill", "stream"])
@pytest.mark.parametrize("given", ["json", "python"])
def test_rows_of_both_modes_equal_the_oracle(mode: Any, given: str) -> None:
    history = [*CHANGES, MOVED, CHANGES[0]]
    truth = compute(compile_plan(VIEWS), history)

    def check(found: list[Row]) -> None:
        assert newest(found) == truth.rows
        assert {row.view for row in found} == {view.__name__ for view in VIEWS}
        assert {row.generation for row in found} == {7}
        if mode == "backfill":
            assert {(row.version, row.seq) for row in found} == {(MOVED.version, 0)}
            assert len(found) == len(truth.rows)

    if given == "python":
        history = [Change(one.path, one.version, one.decode()) for one in history]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        views = VIEWS[:1] + tuple(f"{view.__module__}:{view.__name__}" for view in VIEWS[1:])
        computed = pipeline | beam.Create(history) | ComputeRows(*views, mode=mode, generation=7)
        assert_that(computed.rows, check, label="rows")
        assert_that(computed.dead_letters, equal_to([]), label="dead letters")


@pytest.mark.parametrize("mode", ["backfill", "stream"])
def test_windows_of_the_input_change_no_row(mode: Any) -> None:
    truth = compute(compile_plan([OrganizationSummary]), CHANGES).rows
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        changes = pipeline | beam.Create(CHANGES) | beam.Map(lambda one: TimestampedValue(one, hash(one.path) % 1000))
        windowed = changes | beam.WindowInto(FixedWindows(10)) | beam.Map(lambda one: one).with_output_types(Change)
        computed = windowed | ComputeRows(OrganizationSummary, mode=mode)
        assert computed.rows.windowing.is_default()
        assert_that(computed.rows, lambda found: newest(found) == truth or pytest.fail(f"{found} != {truth}"))


def test_rows_as_a_side_input() -> None:
    def name(path: str, rows: dict[str, Any]) -> tuple[str, int]:
        return path, rows[path]["numUsers"]

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        computed = pipeline | beam.Create([Change("users/u1", 1, USER)]) | ComputeRows(OrganizationSummary)
        rows = beam.pvalue.AsDict(computed.rows | beam.Map(lambda row: (row.path, row.fields)))
        found = pipeline | "Paths" >> beam.Create(["organization_summaries/elm"]) | "Name" >> beam.Map(name, rows)
        assert_that(found, equal_to([("organization_summaries/elm", 1)]))


def test_s5_a_row_that_an_invalid_document_may_belong_to_replaces_no_row() -> None:
    """Generation 0 is older than any row in a sink; where none is, the row is written."""
    broken = Change("meetings/m1", 1 << 60, {"status": 7})
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        computed = pipeline | beam.Create([*CHANGES, broken]) | ComputeRows(MeetingSession)
        stamped = computed.rows | beam.Map(lambda row: (row.path, row.generation))
        paths = compute(compile_plan([MeetingSession]), CHANGES).rows
        assert "meeting_sessions/m1" in paths
        assert_that(stamped, equal_to([(path, int(path != "meeting_sessions/m1")) for path in paths]))


def test_s5_an_unreadable_document_may_belong_to_rows() -> None:
    """`ComputeRows` takes the dead letters of what read the changes, and passes them on."""
    unreadable = b'{"boiler_beam": 1, "path": "users/u1", "version": -1, "fields": {}}'
    known = b'{"boiler_beam": 1, "path": "users/u2", "version": 1, "fields": %b}' % json.dumps(USER).encode()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        decoded = pipeline | beam.Create([unreadable, known]) | DecodeChanges()
        computed = decoded | "Compute" >> ComputeRows(OrganizationSummary)
        assert_that(computed.rows | beam.Map(lambda row: row.generation), equal_to([0]), label="rows")
        letters = computed.dead_letters | "Path" >> beam.Map(lambda letter: (letter.path, letter.stage))
        assert_that(letters, equal_to([("users/u1", "decode")]), label="letters")
        alone = decoded.changes | "Alone" >> ComputeRows(OrganizationSummary)
        assert_that(alone.rows | "Alone/1" >> beam.Map(lambda row: row.generation), equal_to([1]), label="alone")


def test_a_stream_passes_dead_letters_on() -> None:
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        decoded = pipeline | beam.Create([b"nonsense"]) | DecodeChanges()
        computed = decoded | ComputeRows(OrganizationSummary, mode="stream")
        assert_that(computed.dead_letters | beam.Map(lambda one: one.code), equal_to(["malformed_message"]))


def test_changes_take_any_other_transform() -> None:
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        decoded = (
            pipeline | beam.Create([b'{"boiler_beam": 1, "path": "a/b", "version": 1, "fields": {}}']) | DecodeChanges()
        )
        assert_that(decoded | beam.Map(lambda change: change.path), equal_to(["a/b"]))


# The mode ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ([], {}, False),
        (["--streaming"], {}, True),
        (["--streaming"], {"mode": "backfill"}, False),
        ([], {"mode": "stream"}, True),
    ],
)
def test_the_mode_of_bounded_input(arguments: list[str], options: Any, expected: bool) -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(arguments))
    pipeline | beam.Create(CHANGES) | ComputeRows(MeetingSession, **options)
    assert is_stream(pipeline) is expected


@pytest.mark.parametrize("is_pubsub", [False, True])
def test_unbounded_input_is_a_stream(is_pubsub: bool) -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    unbounded = ReadChangesFromPubSub("projects/project/subscriptions/views") if is_pubsub else Events()
    changes = pipeline | unbounded if is_pubsub else pipeline | unbounded | beam.Map(lambda one: one)
    changes | ComputeRows(MeetingSession)
    assert is_stream(pipeline)
    message = "Late: expected a bounded PCollection for mode='backfill', got an unbounded one; fix: mode='stream'"
    with pytest.raises(UsageError, match=message):
        changes | "Late" >> ComputeRows(MeetingSession, mode="backfill")


def test_s19_the_allowed_lateness_holds_changes_beyond_the_watermark() -> None:
    compute_rows = ComputeRows(MeetingSession, consistency="commit", allowed_lateness_seconds=2.5)
    step = _StatefulStep.__new__(_StatefulStep)
    step.level, step.behavior = 0, compute_rows.behavior
    assert step.ripe_at(1_000_000) == 3_501_000
    step.behavior = Behavior(is_commit=True)
    assert step.ripe_at(1_000_000) == 1_001_000


# Types and coders ----------------------------------------------------------------------------------------------------

ELEMENTS = [
    Change("users/u1", 7, {"a": 1}),
    Change("users/u1", 7, None, 9),
    Touch("View", "views/v1", 7),
    Row("View", "views/v1", 1, 7, 8, {"a": [1, 2.5, None], "b": {"c": "ä"}}),
    Row("View", "views/v1", 1, 7, 8, None),
    DeadLetter(stage="decode", code="x", message="y"),
]


@pytest.mark.parametrize("element", ELEMENTS)
def test_a_coder_is_registered_and_deterministic(element: Any) -> None:
    found = registry.get_coder(type(element))
    assert type(found) is ElementCoder
    assert found.is_deterministic()
    assert found.decode(found.encode(element)) == element
    assert found.encode(found.decode(found.encode(element))) == found.encode(element)
    assert copy.copy(element) == element, "by __reduce__, as Beam does where no type is known"


@pytest.mark.parametrize("mode", ["backfill", "stream"])
def test_types_are_named(mode: Any) -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    changes = pipeline | beam.Create(CHANGES)
    assert changes.element_type is Change
    rows, dead_letters, notes = changes | ComputeRows(MeetingSession, mode=mode)
    assert [one.element_type for one in (rows, dead_letters, notes)] == [Row, DeadLetter, bytes]
    written = rows | WriteToFirestore("a-project")
    assert written == WrittenRows(written.dead_letters)
    assert written.dead_letters.element_type is DeadLetter
    assert (pipeline | ReadFromFirestore("a-project", MeetingSession)).element_type is Change
    read = pipeline | ReadChangesFromPubSub("projects/project/subscriptions/s")
    assert [one.element_type for one in read] == [Change, DeadLetter, Touch]


@pytest.mark.parametrize("mode", ["backfill", "stream"])
def test_other_types_are_refused_when_the_pipeline_is_built(mode: Any) -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    with pytest.raises(TypeCheckError, match=r"requires .*Change.* but (got|was applied to) .*int"):
        pipeline | beam.Create([1, 2]) | ComputeRows(MeetingSession, mode=mode)
    with pytest.raises(TypeCheckError, match=r"requires .*Row.* but (got|was applied to) .*Change"):
        pipeline | "Changes" >> beam.Create(CHANGES) | WriteToFirestore("a-project")


def test_rows_between_stages_of_ones_own_have_their_coder() -> None:
    """A shuffle after a transform of no known type takes rows, too."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        computed = pipeline | beam.Create([Change("users/u1", 1, USER)]) | ComputeRows(OrganizationSummary)
        untyped = computed.rows | beam.Map(lambda row: [row][0]) | beam.Reshuffle()
        typed = computed.rows | "Again" >> beam.Reshuffle()
        for label, some in (("untyped", untyped), ("typed", typed)):
            numbers = some | f"{label}/Number" >> beam.Map(lambda row: row.fields["numUsers"])
            assert_that(numbers, equal_to([1]), label=label)


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ComputeRows(), "ComputeRows: expected at least one view, got none"),
        (lambda: ComputeRows(meeting.User), "expected views as classes or as 'module:Class', got <class '.*User'>"),
        (lambda: ComputeRows("MeetingSession"), "expected views as classes or as 'module:Class', got 'MeetingSession'"),
        (lambda: ComputeRows([MeetingSession]), r"expected views as classes or as 'module:Class', got \["),
        (lambda: ComputeRows(MeetingSession, mode="batch"), "expected mode to be one of auto, backfill, stream, got 'batch'"),
        (lambda: ComputeRows(MeetingSession, consistency="x"), "expected consistency to be one of eventual, commit, got 'x'"),
        (lambda: ComputeRows(MeetingSession, generation={"X": 1}), "expected a generation of each of MeetingSession, got those of X"),
        (lambda: ReadFromFirestore("a-project"), "ReadFromFirestore: expected at least one view"),
        (lambda: ReadFromFirestore("a-project", "users"), "expected views as classes or as 'module:Class', got 'users'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_it_runs(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_two_views_on_one_path_are_told_before_it_runs() -> None:
    with pytest.raises(DeclarationError, match="a row path of its own"):
        ComputeRows(MeetingSession, MeetingSession)


def test_changes_of_some_collections_alone() -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    given = Changes(pipeline | beam.Create(CHANGES))
    assert (given | ComputeRows(MeetingSession)).rows.element_type is Row


# Programs ------------------------------------------------------------------------------------------------------------


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_joins_rows_with_a_table(tmp_path: Path) -> None:
    assert len((ROOT / "examples/own_pipeline.py").read_text().splitlines()) < 40
    done = run("-m", "examples.own_pipeline", "--runner", "FnApiRunner", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["elm: 1 users, 120.00 to pay", "oak: 2 users, 100.00 to pay"]


BESIDE = """
import runpy, sys
import transforms

assert transforms.OURS == 1
runpy.run_module("examples.own_pipeline", run_name="__main__")
for mode in ("backfill", "stream"):
    sys.argv = ["meeting", "--runner", "DirectRunner", "--sink", "jsonl:rows.jsonl", "--mode", mode]
    try:
        runpy.run_module("pipelines.meeting", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, ended
assert sys.modules["transforms"] is transforms
"""


def test_another_module_named_transforms_is_in_nobodys_way(tmp_path: Path) -> None:
    """Pipelines and the command line need only `boiler_beam.beam`."""
    (tmp_path / "transforms.py").write_text("OURS = 1\n")
    done = run("-c", BESIDE, cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^(?:elm|oak): ", done.stdout, re.MULTILINE)) == 2
    assert done.stdout.count(" 13 rows,") == 2


@pytest.mark.parametrize("module", ["transforms", "boiler_beam.beam"])
def test_without_beam_one_line_says_what_to_install(module: str) -> None:
    program = f"import sys; sys.modules['apache_beam'] = None; import {module}"
    done = run("-c", program, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: transforms: expected Apache Beam to be installed, got none; fix: pip install '{ROOT}[beam]'"
    )
