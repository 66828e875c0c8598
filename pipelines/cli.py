"""The console script `boiler-beam`; `boiler-beam --help` lists its commands."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import click

from pipelines.command import execute
from pipelines.deploy.cli import deploy_command, once_command, schedule_command
from pipelines.main import run_command
from pipelines.options import RunOptions, options_of_a_database, options_of_a_run

__all__ = ["main"]

_views: Callable[[Any], Any] = click.option(
    "--views", metavar="MODULE[:CLASS,...]", multiple=True, envvar="BOILER_BEAM_VIEWS", required=True,
    help="The views: all in a module, or the named ones.",
)  # fmt: skip


@click.group()
@click.version_option(version("boiler_beam"), prog_name="boiler-beam")
def _cli() -> None:
    """Reactive view models for Firestore backends."""


for _command in (run_command, deploy_command, schedule_command, once_command):
    _cli.add_command(_command)


@_cli.command("explain")
@_views
@click.option(
    "--source", metavar="URI", multiple=True, help="Count over these documents how many rows a change writes."
)
@options_of_a_database
def _explain(views: tuple[str, ...], source: tuple[str, ...], project: str | None, database: str | None) -> int:
    """Print the plan of views: edges, collections, and which rows a change affects."""
    from pipelines.run import explain_plan
    from pipelines.views import load_views, plan_of

    explain_plan(plan_of(load_views(views), source, project, database), source)
    return 0


@_cli.command("diff")
@_views
@click.option("--source", metavar="URI", multiple=True, help="Compute the new rows from these documents.")
@options_of_a_database
@click.argument("sinks", metavar="OLD [NEW]", nargs=-1)
def _diff(
    views: tuple[str, ...], source: tuple[str, ...], sinks: tuple[str, ...], project: str | None, database: str | None
) -> int:
    """Compare the rows of two sinks, or of one sink with those that --source gives now. Exits with 1 if they differ."""
    from rich.console import Console

    from boiler_beam.connectors import open_sink, open_source
    from boiler_beam.connectors.firestore.options import WriteOptions
    from boiler_beam.engine import backfill
    from boiler_beam.engine.diff import differences
    from boiler_beam.engine.memory import MemorySink
    from boiler_beam.events import DeadLetter
    from pipelines.show import show_differences, show_unknown
    from pipelines.views import load_views, plan_of

    if len(sinks) != (1 if source else 2):
        raise click.UsageError("expected OLD and NEW sinks, or --source and one sink")
    plan = plan_of(load_views(views), source, project, database)
    console = Console(highlight=False)
    opened = [open_sink(uri, WriteOptions(references=plan.database.root)) for uri in sinks]
    for sink in opened:
        if not sink.controls():
            raise click.UsageError(f"{sink.uri}: expected rows, got none; fix: check the address")
    if source:
        computed = MemorySink(opened[0], is_aside=True)  # unknown rows stay as they are
        letters: list[DeadLetter] = []
        backfill(plan, [open_source(uri) for uri in source], computed, letters.append, prune="all")
        opened.append(computed)
        show_unknown(console, letters)
    number = show_differences(console, differences(plan, *opened))
    print(f"{number:,} rows differ" if number > 1 else "1 row differs" if number else "no row differs")
    return 1 if number else 0


@_cli.command("reconcile", context_settings={"ignore_unknown_options": True})
@_views
@options_of_a_run
def _reconcile(options: RunOptions, views: tuple[str, ...]) -> int:
    """Compute all rows from --source, write those that differ to --sink, and delete those that should not exist.

    This is another name of a backfill; --dry_run shows what it would do. Beside a live stream it does not write: it
    asks the stream to write the rows that differ.
    """
    from pipelines.run import run
    from pipelines.views import load_views

    return run(load_views(views), replace(options, mode="backfill"))


@_cli.command("doctor")
def _doctor() -> int:
    """Check that what is installed and configured can be used. Exits with 1 if something can't."""
    from pipelines.doctor import examine

    found = list(examine())
    for is_well, line in found:
        print(f"{'ok  ' if is_well else 'FAIL'} {line}")
    return 0 if all(is_well for is_well, _ in found) else 1


@_cli.command("why")
@_views
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@options_of_a_database
@click.argument("row_path")
def _why(
    views: tuple[str, ...], source: tuple[str, ...], row_path: str, project: str | None, database: str | None
) -> int:
    """Show the documents and versions of a row, and what each contributed; or why there is no such row.

    Exits with 1 if there is no such row.
    """
    from boiler_beam.connectors import open_sources
    from boiler_beam.connectors.located import Located, read_located
    from boiler_beam.engine.why import why
    from boiler_beam.events import DeadLetter
    from boiler_beam.steps.newest import NewestVersions
    from pipelines.views import load_views, plan_of

    plan = plan_of(load_views(views), source, project, database)
    letters: list[DeadLetter] = []
    located = Located()
    versions = NewestVersions(plan, lambda letter: letters.append(located(letter)))
    versions.add_all(read_located(open_sources(source, plan.collections), located))
    found = why(plan, versions, row_path, letters)
    for line in found.lines:
        print(line)
    return 0 if found.is_there else 1


@_cli.command("init")
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Check at most so many documents of each collection.",
)
@click.argument("module", metavar="MY_VIEWS.PY")
def _init(source: tuple[str, ...], sample: int, module: str) -> int:
    """Propose models, a first view and its test from documents, and write them to a new module."""
    from pipelines.init import initialize

    for line in initialize(module, source, sample):
        print(line)
    return 0


@_cli.command("check")
@_views
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@click.option(
    "--sample", type=click.IntRange(min=1), help="Check at most so many documents of each collection.  [default: all]"
)
@options_of_a_database
def _check(
    views: tuple[str, ...], source: tuple[str, ...], sample: int | None, project: str | None, database: str | None
) -> int:
    """Check models and views against documents: invalid documents, dangling references, properties that differ.

    Some rows are computed again, in another order and with another hash seed. Exits with 1 if there is a problem.
    """
    from pipelines.check import run_check
    from pipelines.views import load_views, plan_of

    return run_check(plan_of(load_views(views), source, project, database), source, sample)


@_cli.command("relay")
@click.option("--source", metavar="URI", required=True, help="The source to follow: firestore:PROJECT.")
@click.option("--topic", metavar="projects/P/topics/T", required=True, help="The topic to publish to.")
@click.option(
    "--state",
    "relay_state",
    metavar="URI",
    default="sqlite:boiler_beam.relay.db",
    show_default=True,
    help="Where the relay keeps its state.",
)
@click.option("--collection", metavar="PATTERN", multiple=True, help="A collection to publish.  [default: all]")
@click.option(
    "--views", metavar="MODULE[:CLASS,...]", multiple=True, help="Publish the collections that these views read."
)
def _relay(source: str, topic: str, relay_state: str, collection: tuple[str, ...], views: tuple[str, ...]) -> int:
    """Listen to a database and publish each change to a Pub/Sub topic, until ^C."""
    from boiler_beam.plan import compile_plan
    from pipelines.relay import run_relay
    from pipelines.views import load_views

    families = compile_plan(load_views(views)).families if views else ()
    asked = dict.fromkeys([*collection, *(family.pattern.text for family in families)])
    report = run_relay(source, topic, relay_state, list(asked))
    print(f"{report.published:,} messages published, {report.deletions:,} of them deletions")
    return 0


@_cli.group("dead-letters")
def _dead_letters() -> None:
    """Show dead letters, and replay their inputs."""


@_dead_letters.command("list")
@click.argument("uri")
@click.option("--code", help="Only dead letters with this code.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many to show.")
def _list(uri: str, code: str | None, limit: int) -> int:
    """Show the dead letters at a URI, and count them by code: where --dead_letter wrote them, or a subscription."""
    from boiler_beam.connectors import read_dead_letters

    counts: Counter[str] = Counter()
    for letter in read_dead_letters(uri):
        if code is not None and letter.code != code:
            continue
        counts[letter.code] += 1
        if counts.total() <= limit:
            print(f"{letter.time} {letter.stage} {letter.code} {letter.about}: {letter.message}")
    if counts.total() > limit:
        print(f"... and {counts.total() - limit:,} more")
    print(", ".join(f"{number:,} {name}" for name, number in counts.most_common()) or "no dead letters")
    return 0


@_dead_letters.command("replay")
@click.argument("uri")
@click.option("--to", metavar="TOPIC", help="Publish the inputs to this topic: for a stream that follows it.")
@_views
@options_of_a_run
def _replay(options: RunOptions, views: tuple[str, ...], uri: str, to: str | None) -> int:
    """Apply the inputs of dead letters to the state of a stream, after the fix.

    The stream must not run meanwhile. --state and --sink are those of the stream. With --to they are published to the
    topic that the stream follows, which may run: so for a job on Dataflow.
    """
    from boiler_beam.errors import UsageError
    from pipelines.run import run
    from pipelines.stream import state_beside
    from pipelines.views import load_views, plan_of

    for name in ("runner", "source"):
        if getattr(options, name):
            raise UsageError(f"--{name}: expected only the inputs of dead letters; fix: leave it out")
    if to is not None:
        from boiler_beam.connectors.pubsub.replay import replay

        targets = [view.target for view in plan_of(load_views(views), (), options.project, options.database).views]
        found = replay(uri, to, targets)
        print(
            f"published {found['document']:,} documents, {found['message']:,} messages, {found['row']:,} rows to {to}"
        )
        return 0
    state = options.state or state_beside(options.sink, is_bounded=False)
    _path_of_state(state)
    source = (f"dead-letters:{uri}",)
    return run(load_views(views), replace(options, mode="stream", source=source, state=state))


for _parameter in _replay.params:
    if isinstance(_parameter, click.Option):
        _parameter.hidden = _parameter.name in ("runner", "source", "mode", "from_empty", "read_time", "explain")
    elif _parameter.name == "beam_arguments":
        _parameter.metavar = ""


@_cli.group("state")
def _state() -> None:
    """Look at what a stream keeps between runs: `show` at any time, the others while it does not run."""


@_state.command("show")
@click.argument("uri")
def _show_state(uri: str) -> int:
    """Show how much there is, each view's rows and phase, and how far each source was read."""
    from boiler_beam.values import format_timestamp

    with _opened_state(uri, is_shared=True) as state:
        numbers, newest = state.numbers(), state.facts.get("newest", 0)
        print(
            f"{uri}: {numbers['bytes']:,} bytes, {numbers['log']:,} batches in the log, {numbers['outbox']:,} rows or "
            f"dead letters to be sent, {numbers['waiting']:,} changes that wait for their commit"
        )
        moment = datetime.fromtimestamp(min(newest // 1_000_000, 253_402_300_799), timezone.utc)
        print(f"{state.facts.get('documents', 0):,} documents, newest version {newest} ({format_timestamp(moment)})")
        for name, view in state.views.items():
            built = "" if view.phase == "live" else f", {view.phase}"
            print(f"{name}: {view.rows:,} rows, generation {view.generation}, fingerprint {view.fingerprint}{built}")
        for source, position in state.positions().items():
            print(f"{source}: {position}")
    return 0


@_state.command("compact")
@click.option(
    "--keep_days", type=click.FloatRange(min=0), default=10, show_default=True,
    help="Tombstones are kept for so many days before the newest version.",
)  # fmt: skip
@click.argument("uri")
def _compact_state(uri: str, keep_days: float) -> int:
    """Remove old tombstones, and make the file smaller. Older changes of unknown documents are dead letters then."""
    with _opened_state(uri) as state:
        before = state.numbers()["bytes"]
        number = state.compact(state.facts.get("newest", 0) - round(keep_days * 86_400_000_000))
        print(f"{number:,} tombstones removed, {before:,} -> {state.numbers()['bytes']:,} bytes")
    return 0


@_state.command("check")
@click.argument("uri")
def _check_state(uri: str) -> int:
    """Read the whole file. Exits with 1 if something is wrong."""
    with _opened_state(uri) as state:
        problems = list(state.problems())
    number = len(problems)
    for problem in problems:
        print(problem)
    print(f"{number:,} problems" if number else "no problems")
    return 1 if number else 0


@contextmanager
def _opened_state(uri: str, *, is_shared: bool = False) -> Iterator[Any]:
    from boiler_beam.engine.state import SqliteState

    fix = "stop the stream; while it runs, use /metrics (--metrics_port)"
    with closing(SqliteState(_path_of_state(uri), fix, is_shared=is_shared)) as state:
        yield state


def _path_of_state(uri: str) -> str:
    """Opens an existing state file."""
    from boiler_beam.errors import UsageError

    path = uri.removeprefix("sqlite:")
    if not uri.startswith("sqlite:") or not os.path.exists(path):
        fix = "check the path" if ":" in uri else f"write sqlite:{uri}"
        raise UsageError(f"{uri}: expected the state of a stream at sqlite:PATH, got none; fix: {fix}")
    return path


def main() -> None:
    """The console script."""
    sys.exit(execute(_cli))


if __name__ == "__main__":
    main()
