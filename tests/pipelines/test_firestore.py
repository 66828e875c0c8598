"""Programs with emulators, by command line: snapshot and stream, kills, restarts, backfills beside a stream."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boiler_beam.connectors import Control, open_sink
from boiler_beam.connectors.pubsub.envelope import document_message
from boiler_beam.oracle import compute
from boiler_beam.plan import compile_plan
from tests.helpers.executors import run_options
from tests.helpers.firestore import Application, Write
from tests.helpers.pubsub import Channel
from tests.helpers.servers import NO_PRISM, free_port, prism, wait_until
from tests.pipelines.streaming_views import Card, Table
from tests.pipelines.test_streams import cli, fetched, run, start

PLAN = compile_plan([Card, Table])
COLLECTIONS = ("cards", "tables")


@pytest.fixture
def application(firestore_emulator: str, project: str) -> Iterator[Application]:
    one = Application(project)
    yield one
    one.close()


def truth(application: Application) -> dict[str, Any]:
    return {path: json.loads(fields) for path, fields in compute(PLAN, application.history).rows.items()}


def rows(application: Application) -> dict[str, Any]:
    return {path: row for collection in COLLECTIONS for path, row in application.rows(collection).items()}


def assert_right(application: Application) -> None:
    assert rows(application) == truth(application)


def wait_for_right(application: Application, seconds: float = 180) -> None:
    expected = truth(application)

    def difference() -> str:
        found = rows(application)
        paths = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
        return (
            f"rows: expected {[(path, expected.get(path)) for path in paths]}, "
            f"got {[(path, found.get(path)) for path in paths]}; "
            f"documents unlike the last write to them: {application.unexpected()}"
        )

    wait_until(lambda: rows(application) == expected, difference, seconds, pause=0.1)


def moves(number: int, seed: int, players: int = 20) -> list[Write]:
    """Writes and deletions of teams and players, one after the other."""
    order, found = random.Random(seed), []
    for _ in range(number):
        if order.random() < 0.1:
            found.append((f"teams/t{order.randrange(4)}", {"name": f"name {order.randrange(9)}"}))
            continue
        fields = {"team": f"teams/t{order.randrange(4)}", "points": order.randrange(100)}
        found.append((f"players/p{order.randrange(players)}", fields if order.random() < 0.9 else None))
    return found


def one_by_one(application: Application, writes: list[Write]) -> None:
    for write in writes:
        application.write([write])


TEAMS: list[Write] = [(f"teams/t{one}", {"name": f"team {one}"}) for one in range(4)]


def test_backfill_diff_and_reconcile(application: Application, project: str, tmp_path: Path) -> None:
    application.write(TEAMS)
    one_by_one(application, moves(60, seed=1))
    database = f"firestore:{project}"
    done = run(tmp_path, "--source", database, "--sink", database)
    assert done.returncode == 0, done.stderr
    assert_right(application)
    assert any(line.startswith("Firestore: ") for line in done.stdout.splitlines()), "what it cost"
    again = run(tmp_path, "--source", database, "--sink", database)
    assert " 0 writes, 0 deletes: " in again.stdout
    assert cli(tmp_path, "diff", "--views", VIEWS, "--source", database, database).stdout == "no row differs\n"
    path = min(application.rows("cards"))
    application.write([(path, {"label": "wrong"}), ("cards/nobody", {"label": "extra"})])
    different = cli(tmp_path, "diff", "--views", VIEWS, "--source", database, database)
    assert (different.returncode, different.stdout.splitlines()[-1]) == (1, "2 rows differ")
    del application.history[-2:]
    fixed = cli(tmp_path, "reconcile", "--views", VIEWS, "--source", database, "--sink", database)
    assert fixed.returncode == 0, fixed.stderr
    assert_right(application)


VIEWS = "tests.pipelines.streaming_views"


def test_a_stream_that_listens(application: Application, project: str, tmp_path: Path) -> None:
    application.write(TEAMS)
    one_by_one(application, moves(40, seed=2))
    database = f"firestore:{project}"
    port = free_port()
    given = ("--mode", "stream", "--source", database, "--sink", database, "--state", "sqlite:state.db")
    process = start(tmp_path, *given, "--metrics_port", str(port))
    try:
        wait_for_right(application)
        one_by_one(application, moves(60, seed=3))
        wait_for_right(application)
        figures = fetched(port, "/metrics")[1]
        assert 'boiler_beam_sink_total{what="conflicts"} 0.0' in figures
        assert 'boiler_beam_sink_total{what="writes"} 0.0' not in figures
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Firestore: " in out


def test_it_is_ready_when_all_rows_are_in_the_database(application: Application, project: str, tmp_path: Path) -> None:
    """On a first start, which reads all documents before it writes a row."""
    application.write([(f"teams/t{number}", {"name": f"team {number}"}) for number in range(700)])
    database, port = f"firestore:{project}", free_port()
    given = ("--source", database, "--sink", database, "--mode", "stream", "--metrics_port", str(port))
    process = start(tmp_path, *given)
    try:
        wait_until(lambda: fetched(port, "/readyz")[0] == 200, "readiness", 90)
        assert 'boiler_beam_rows{view="Table"} 700.0' in fetched(port, "/metrics")[1]
        assert len(rows(application)) == 700
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_s22_what_was_deleted_while_the_program_was_down(
    application: Application, project: str, tmp_path: Path
) -> None:
    application.write(TEAMS)
    application.write([(f"players/p{one}", {"team": "teams/t1", "points": one}) for one in range(10)])
    database = f"firestore:{project}"
    given = ("--mode", "stream", "--source", database, "--sink", database, "--state", "sqlite:state.db")
    process = start(tmp_path, *given)
    try:
        wait_for_right(application)
        process.kill()
        process.communicate()
        application.write(
            [("players/p3", None), ("players/p4", {"team": "teams/t2", "points": 70}), ("teams/t0", None)]
        )
        process = start(tmp_path, *given)
        wait_for_right(application)
        assert "cards/p3" not in rows(application)
    finally:
        process.kill()
        process.communicate()


def test_killed_at_any_time(application: Application, project: str, tmp_path: Path) -> None:
    order, database = random.Random(7), f"firestore:{project}"
    application.write(TEAMS)
    given = ("--mode", "stream", "--source", database, "--sink", database, "--state", "sqlite:state.db")
    for life in range(5):
        process = start(tmp_path, *given)
        try:
            one_by_one(application, moves(order.randrange(40, 120), seed=10 + life))
        finally:
            process.kill()
            process.communicate()
    process = start(tmp_path, *given)
    try:
        wait_for_right(application)
    finally:
        process.kill()
        print(*process.communicate())
    done = cli(tmp_path, "diff", "--views", VIEWS, "--source", database, database)
    assert done.stdout == "no row differs\n", done.stdout + done.stderr


def test_who_asks_twice_to_end_need_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database does not answer, and the program would try for minutes."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    process = start(tmp_path, "--mode", "stream", "--source", "firestore:some-project", "--sink", "jsonl:rows.jsonl")
    try:
        assert process.stderr is not None
        said = [next(line for line in process.stderr if "got UNAVAILABLE" in line)]
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        said += process.communicate(timeout=60)[1].splitlines()
    finally:
        process.kill()
    assert (process.returncode, said[-1]) == (
        1,
        "error: interrupted; fix: run it again, it resumes after its last transaction",
    )


@pytest.mark.parametrize("runner", [(), pytest.param(("--runner", "DirectRunner"), marks=pytest.mark.beam)])
def test_s16_a_backfill_beside_a_stream_asks_it_for_rows(
    application: Application, project: str, tmp_path: Path, runner: tuple[str, ...]
) -> None:
    if runner:
        pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    application.write(TEAMS)
    one_by_one(application, moves(40, seed=5))
    database = f"firestore:{project}"
    process = start(
        tmp_path, "--mode", "stream", "--source", database, "--sink", database, "--state", "sqlite:state.db"
    )
    try:
        wait_for_right(application)
        (tmp_path / "beside").mkdir()
        quiet = run(tmp_path / "beside", "--source", database, "--sink", database, *runner)
        assert (quiet.returncode, "a stream writes these rows" in quiet.stdout) == (0, False), quiet.stdout
        known = len(application.history)
        path = min(application.rows("cards"))
        application.write([(path, {"label": "somebody wrote this"}), ("cards/nobody", {"label": "and this"})])
        del application.history[known:]
        done = run(tmp_path / "beside", "--source", database, "--sink", database, "--prune", "all", *runner)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it was asked to write 2 rows again; drift: 0\n" in done.stdout
        wait_for_right(application)
        assert application.documents("touches", is_group=True) == {}
    finally:
        process.kill()
        process.communicate()


@pytest.mark.beam
def test_s16_a_backfill_on_a_runner_hears_that_the_stream_ended(
    application: Application, project: str, tmp_path: Path
) -> None:
    """With `--no_touches` no touches are sent, and the backfill writes the rows."""
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    application.write(TEAMS)
    one_by_one(application, moves(30, seed=9))
    database, topic = f"firestore:{project}", f"projects/{project}/topics/gone"
    controls = {
        view.name: Control(generation=1, fingerprint=view.fingerprint, holder="ended", topic=topic)
        for view in PLAN.views
    }
    with open_sink(database).stream([view.target for view in PLAN.views]) as writer:
        writer.control(controls)
    done = run(tmp_path, "--source", database, "--sink", database, "--runner", "DirectRunner", "--no_touches")
    assert done.returncode == 0, done.stderr
    assert "a stream writes these rows" not in done.stdout
    assert_right(application)


@pytest.mark.beam
def test_a_runner_writes_to_firestore_and_prunes(application: Application, project: str, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    application.write(TEAMS)
    one_by_one(application, moves(30, seed=6))
    known = len(application.history)
    application.write([("cards/nobody", {"label": "of an older generation"})])
    del application.history[known:]
    database = f"firestore:{project}"
    done = run(tmp_path, "--mode", "stream", "--source", database, "--sink", database, "--runner", "DirectRunner")
    assert done.returncode == 0, done.stderr
    assert_right(application)
    again = run(tmp_path, "--source", database, "--sink", database)
    assert again.returncode == 0, again.stderr
    assert_right(application)


CLOUD = ("--project=project", "--region=r", "--temp_location=gs://bucket/temp", "--no_auth")


def submit(project: str, channel: Channel, job: Callable[[Any], Any], *arguments: str) -> Any:
    """Starts a stream on Dataflow; `job` is called with the pipeline instead of the service."""
    from pipelines.streaming import run_streaming

    database = f"firestore:{project}"
    options = run_options(
        runner="DataflowRunner", source=(database, channel.source), sink=database, beam_arguments=(*CLOUD, *arguments)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_GCE_CHECK", "true")
        # It would look for the bucket.
        patch.setattr(
            "apache_beam.options.pipeline_options_validator.PipelineOptionsValidator.validate", lambda self: []
        )
        patch.setattr("apache_beam.Pipeline.run", job)
        return run_streaming(PLAN, options, database)


@pytest.mark.beam
def test_a_live_job_keeps_nothing_in_a_folder_of_who_submits(
    application: Application, pubsub_emulator: str, project: str
) -> None:
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    labels: set[str] = set()

    def job(pipeline: Any) -> Any:
        transforms = pipeline.to_runner_api().components.transforms.values()
        labels.update(one.unique_name for one in transforms)
        return SimpleNamespace(job_id=lambda: "job")

    channel = Channel(project)
    submit(project, channel, job)
    channel.close()
    assert ("Write/DeadLetter" in labels, "Write/Left" in labels) == (True, False)


@pytest.mark.beam
@pytest.mark.parametrize(
    ("arguments", "writers"),
    [((), 1), (("--max_num_workers=9",), 9), (("--num_workers=4", "--max_num_workers=9"), 4)],
)
def test_the_workers_of_a_job_share_the_budget_of_the_ramp_up(
    application: Application, pubsub_emulator: str, project: str, arguments: tuple[str, ...], writers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    from transforms import WriteToFirestore

    given: list[int] = []

    def write(address: str, options: Any) -> WriteToFirestore:
        given.append(options.writers)
        return WriteToFirestore(address, options=options)

    monkeypatch.setattr("pipelines.streaming.WriteToFirestore", write)
    channel = Channel(project)
    submit(project, channel, lambda pipeline: SimpleNamespace(job_id=lambda: "job"), *arguments)
    channel.close()
    assert given == [writers]


@pytest.mark.beam
def test_s16_nobody_asks_a_job_that_could_not_be_sent(
    application: Application, pubsub_emulator: str, project: str, tmp_path: Path
) -> None:
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    application.write(TEAMS)
    database, channel, topics = f"firestore:{project}", Channel(project), []

    def job(pipeline: Any) -> Any:
        topics.extend(one.topic for one in open_sink(database).controls().values())
        raise RuntimeError("no quota")

    with pytest.raises(RuntimeError, match="no quota"):
        submit(project, channel, job)
    assert topics == [channel.topic] * 2, "before rows may come"
    channel.close()
    done = run(tmp_path, "--source", database, "--sink", database)
    assert (done.returncode, "a stream writes these rows" in done.stdout) == (0, False), done.stdout + done.stderr
    assert_right(application)


@pytest.mark.beam
@pytest.mark.slow
@pytest.mark.skipif(prism() is None, reason=NO_PRISM)
def test_pubsub_on_prism(application: Application, pubsub_emulator: str, project: str, tmp_path: Path) -> None:
    """A pipeline with a snapshot and changes through Pub/Sub; a backfill beside it sends touches by the topic."""
    channel = Channel(project)
    application.write(TEAMS)
    one_by_one(application, moves(20, seed=8))
    database, known = f"firestore:{project}", len(application.history)
    given = ("--source", database, "--source", channel.source, "--sink", database, "--allowed_lateness_seconds", "0.5")
    process = start(tmp_path, *given, "--runner", "PrismRunner", f"--prism_location={prism()}")
    try:
        wait_for_right(application, 180)
        one_by_one(application, moves(20, seed=9))
        channel.publish(document_message(change) for change in application.history[known:])
        wait_for_right(application, 180)
        known, path = len(application.history), min(application.rows("cards"))
        application.write([(path, {"label": "somebody wrote this"}), ("cards/nobody", {"label": "and this"})])
        del application.history[known:]
        (tmp_path / "beside").mkdir()
        done = run(tmp_path / "beside", "--source", database, "--sink", database, "--prune", "all")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it was asked to write 2 rows again; drift: 0\n" in done.stdout
        assert_right(application)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
        channel.close()
    assert process.returncode == 0, err
