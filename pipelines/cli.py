"""The console script `boiler-beam`; `boiler-beam --help` lists its commands."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import click

from pipelines.command import execute
from pipelines.deploy.cli import deploy_command, once_command, schedule_command
from pipelines.main import run_command
from pipelines.options import CONTEXT, RunOptions, did_you_mean, options_of_a_database, options_of_a_run

__all__ = ["main"]

_views: Callable[[Any], Any] = click.option(
    "--views", metavar="MODULE[:CLASS,...]", multiple=True, envvar="BOILER_BEAM_VIEWS", required=True,
    help="The views: all in a module, or the named ones.",
)  # fmt: skip


class _Commands(click.Group):
    """A group whose commands are written with hyphens or underscores; without a command it prints its help."""

    group_class = type

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command with a name."""
        found = {name.replace("-", "_"): command for name, command in self.commands.items()}
        return found.get(cmd_name.replace("-", "_"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments begin with."""
        try:
            _, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message.rstrip('.')}{did_you_mean(args[0], list(self.commands))}") from None
        return command.name if command else None, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        if ctx.invoked_subcommand is None and not ctx._protected_args:
            click.echo(ctx.get_help())
            return 0
        return super().invoke(ctx)


@click.group(cls=_Commands, invoke_without_command=True, context_settings=CONTEXT)
@click.version_option(package_name="boiler_beam", prog_name="boiler-beam")
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
    """Print the plan of views, and which rows a change affects."""
    from boiler_beam.program import explain
    from pipelines.views import load_views

    print(explain(load_views(views), sources=source, project=project, database=database))
    return 0


@_cli.command("diff")
@_views
@click.option("--source", metavar="URI", multiple=True, help="Compute the new rows from these documents.")
@options_of_a_database
@click.argument("sinks", metavar="OLD [NEW]", nargs=-1)
def _diff(
    views: tuple[str, ...], source: tuple[str, ...], sinks: tuple[str, ...], project: str | None, database: str | None
) -> int:
    """Compare rows with other rows, or with the documents.

    OLD is a sink. It is compared with the sink NEW, or with the rows that the documents of --source give now. Exits
    with 1 if rows differ.
    """
    from rich.console import Console

    from boiler_beam.program import diff
    from pipelines.show import show_differences, show_unknown
    from pipelines.views import load_views

    if len(sinks) != (1 if source else 2):
        raise click.UsageError("expected OLD and NEW sinks, or --source and one sink")
    found = diff(load_views(views), *sinks, sources=source, project=project, database=database)
    console = Console(highlight=False)
    show_unknown(console, found.unknown)
    show_differences(console, found)
    print(found.summary)
    return 1 if found else 0


@_cli.command("reconcile", context_settings={"ignore_unknown_options": True})
@_views
@options_of_a_run
def _reconcile(options: RunOptions, views: tuple[str, ...]) -> int:
    """Run a backfill, also beside a stream that writes the rows.

    Computes all rows from --source, writes those that differ to --sink, and deletes those that should not exist.

    This is another name of a backfill; --dry_run shows what it would do. Beside a live stream it does not write: it
    asks the stream to write the rows that differ.
    """
    from pipelines.run import run
    from pipelines.views import load_views

    return run(load_views(views), replace(options, mode="backfill"))


@_cli.command("doctor")
def _doctor() -> int:
    """Check what is installed and configured.

    Exits with 1 if something can't be used.
    """
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
    """Show the documents of a row, or why there is no row.

    Each document is shown with its version and what it contributes.

    Exits with 1 if there is no such row.
    """
    from boiler_beam.program import why
    from pipelines.views import load_views

    found = why(load_views(views), row_path, sources=source, project=project, database=database)
    print(found)
    return 0 if found.is_there else 1


@_cli.command("init")
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Read at most this many documents of each collection.",
)
@click.argument("module", metavar="MY_VIEWS.PY")
def _init(source: tuple[str, ...], sample: int, module: str) -> int:
    """Write a module with models and a view for documents.

    MY_VIEWS.PY is the new module; a test is written beside it.
    """
    from pipelines.init import initialize

    for line in initialize(module, source, sample):
        print(line)
    return 0


@_cli.command("check")
@_views
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@click.option(
    "--sample", type=click.IntRange(min=1), help="Check at most this many documents of each collection.  [default: all]"
)
@options_of_a_database
def _check(
    views: tuple[str, ...], source: tuple[str, ...], sample: int | None, project: str | None, database: str | None
) -> int:
    """Check models and views against documents.

    Finds invalid documents, dangling references, and properties whose value depends on the order of documents.

    Some rows are computed again, in another order and with another hash seed. Exits with 1 if there is a problem.
    """
    from boiler_beam.program import check
    from pipelines.views import load_views

    found = check(load_views(views), sources=source, sample=sample, project=project, database=database)
    print(found)
    return 1 if found.number_of_problems else 0


_forms: Callable[[Any], Any] = click.option(
    "--forms", metavar="MODULE[:CLASS,...]", multiple=True, required=True,
    help="The forms: all in a module, or the named ones.",
)  # fmt: skip


@_cli.command("forms")
@_forms
@click.option("--store", metavar="URI", envvar="BOILER_BEAM_STORE", help="Forms and documents: firestore:PROJECT.")
@click.option("--source", metavar="URI", help="Where forms are observed.  [default: the store]")
@click.option(
    "--dead_letter", metavar="URI", default="jsonl:dead_letters.jsonl", show_default=True,
    help="Where dead letters are written.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Apply the forms that are there, and end.")
def _apply_forms(forms: tuple[str, ...], store: str | None, source: str | None, dead_letter: str, once: bool) -> int:
    """Apply the forms that clients create, until ^C.

    Exits with 1 if a form failed.
    """
    from pipelines.forms import run_forms
    from pipelines.views import load_forms

    report = run_forms(load_forms(forms), store, source, dead_letter, is_once=once)
    print(f"{report.done:,} forms done, {report.rejected:,} rejected, {report.failed:,} failed")
    return 1 if report.failed else 0


@_cli.command("rules")
@_views
@click.option("--forms", metavar="MODULE[:CLASS,...]", multiple=True, help="The forms that clients create.")
@click.option("--out", metavar="PATH", help="The file to write.  [default: stdout]")
def _rules(views: tuple[str, ...], forms: tuple[str, ...], out: str | None) -> int:
    """Print Firestore security rules for rows and forms.

    By these rules clients read their rows, create and read their forms, and nothing else.
    """
    from boiler_beam.plan import compile_plan
    from boiler_beam.writing.rules import security_rules
    from pipelines.views import load_forms, load_views

    return _written(security_rules(compile_plan(load_views(views)), load_forms(forms)), out)


@_cli.command("types")
@_views
@click.option(
    "--language", type=click.Choice(["typescript", "python"]), required=True, help="The language of the module."
)
@click.option("--out", metavar="PATH", help="The file to write.  [default: stdout]")
def _types(views: tuple[str, ...], language: str, out: str | None) -> int:
    """Print a module with types of rows, and a client."""
    from boiler_beam.plan import compile_plan
    from boiler_beam.writing.clients import client_module
    from pipelines.views import load_views

    return _written(client_module(compile_plan(load_views(views)), language), out)


def _written(text: str, out: str | None) -> int:
    """Writes a text to a file, or to stdout."""
    if out is None:
        sys.stdout.write(text)
        return 0
    with open(out, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {out}")
    return 0


@_cli.group("documents")
def _documents() -> None:
    """Fill a store of documents in a file."""


@_documents.command("load")
@click.option("--source", metavar="URI", multiple=True, required=True, help="The documents.")
@click.argument("store", metavar="documents:PATH")
def _load_documents(source: tuple[str, ...], store: str) -> int:
    """Copy the newest documents of sources to a new store."""
    from pipelines.forms import load_documents

    print(f"{load_documents(source, store):,} documents")
    return 0


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
    """Publish the changes of a database to a Pub/Sub topic.

    Runs until ^C.
    """
    from boiler_beam.plan import compile_plan
    from pipelines.relay import run_relay
    from pipelines.views import load_views

    read = compile_plan(load_views(views)).collections if views else ()
    asked = dict.fromkeys([*collection, *read])
    report = run_relay(source, topic, relay_state, list(asked))
    print(f"{report.published:,} messages published, {report.deletions:,} of them deletions")
    return 0


@_cli.command("serve")
@_views
@click.option(
    "--source",
    metavar="URI",
    multiple=True,
    help="The documents, which the engine follows in this process.  [default: another program writes the rows]",
)
@click.option(
    "--rows",
    metavar="URI",
    envvar="BOILER_BEAM_SINK",
    default="sqlite:boiler_beam.db",
    show_default=True,
    help="Where the rows are: sqlite:PATH; or, without --source, firestore:PROJECT, to which the server listens.",
)
@click.option("--state", metavar="URI", envvar="BOILER_BEAM_STATE", help="The state of the engine, as for a stream.")
@click.option("--dead_letter", metavar="URI", help="Where dead letters are written.  [default: beside the rows]")
@click.option(
    "--documents",
    metavar="URI",
    help="The store that writes go to, where another program writes the rows: documents:PATH, firestore:PROJECT.  "
    "[default: the source]",
)
@click.option(
    "--auth",
    metavar="none|firebase:PROJECT",
    help="Who may see and change what: everyone everything, or users by their ID tokens.  "
    "[default: none if --host is this machine]",
)
@click.option(
    "--roles",
    metavar="COLLECTION",
    help="Documents that give users roles, beside those in their tokens: COLLECTION?user=FIELD&role=FIELD&of=FIELD.  "
    "[default: none]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--origin", metavar="URL", multiple=True, help="A site whose pages may read and write.  [default: none]")
@click.option(
    "--coalesce_seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How long changes are gathered before the affected rows are written.",
)
@click.option(
    "--requests_per_second",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="How many requests of one client are answered; at once twice as many.  [default: any number]",
)
@click.option(
    "--max_connections",
    metavar="N",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="How many requests, live streams and WebSockets are served at the same time.",
)
@click.option(
    "--max_connections_per_client",
    metavar="N",
    type=click.IntRange(1),
    help="How many of them may come from one address.  [default: any number]",
)
def _serve(views: tuple[str, ...], **given: Any) -> int:
    """Serve rows and their changes over HTTP.

    Serves REST, Durable Streams, WebSocket, GraphQL and JSON-RPC, until SIGTERM or ^C.
    """
    from pipelines.serve import ServeOptions, run_serve
    from pipelines.views import load_views

    return run_serve(load_views(views), ServeOptions(**given))


@_cli.group("dead-letters", invoke_without_command=True)
def _dead_letters() -> None:
    """Show dead letters, and replay their inputs."""


@_dead_letters.command("list")
@click.argument("uri")
@click.option("--code", help="Only dead letters with this code.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="How many to show.")
def _list(uri: str, code: str | None, limit: int) -> int:
    """Show dead letters, and count them by code.

    URI is where --dead_letter wrote them, or a subscription of that topic.
    """
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
@click.option("--to", metavar="TOPIC", help="Publish the inputs to this topic, for a running stream that follows it.")
@_views
@options_of_a_run
def _replay(options: RunOptions, views: tuple[str, ...], uri: str, to: str | None) -> int:
    """Apply the inputs of dead letters again, after the fix.

    The inputs are applied to the state of a stream, which must not run meanwhile: give its --state and --sink. With
    --to they are published to the topic that a running stream follows, such as a job on Dataflow.
    """
    from boiler_beam.errors import UsageError
    from boiler_beam.program.connecting import state_beside
    from pipelines.run import run
    from pipelines.views import load_views

    for name in ("runner", "source"):
        if getattr(options, name):
            raise UsageError(f"--{name}: expected only the inputs of dead letters; fix: leave it out")
    if to is not None:
        from boiler_beam.connectors.pubsub.replay import replay
        from boiler_beam.program.loading import plan_of

        plan = plan_of(load_views(views), project=options.project, database=options.database)
        found = replay(uri, to, [view.target for view in plan.views])
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


@_cli.group("state", invoke_without_command=True)
def _state() -> None:
    """Show, check or compact the state of a stream.

    `show` may be used at any time, the others only while the stream does not run.
    """


@_state.command("show")
@click.argument("uri")
def _show_state(uri: str) -> int:
    """Show size, rows, phases and positions.

    These are the size of the file, the rows and phase of each view, and how far each source was read.
    """
    from boiler_beam.values import format_version

    with _opened_state(uri, is_read_only=True) as state:
        numbers, newest = state.numbers(), state.facts.get("newest", 0)
        print(
            f"{uri}: {numbers['bytes']:,} bytes, {numbers['log']:,} batches in the log, {numbers['outbox']:,} rows or "
            f"dead letters to be sent, {numbers['waiting']:,} changes that wait for their commit"
        )
        print(f"{state.facts.get('documents', 0):,} documents, newest version {format_version(newest)}")
        for name, view in state.views.items():
            built = "" if view.phase == "live" else f", {view.phase}"
            print(f"{name}: {view.rows:,} rows, generation {view.generation}, fingerprint {view.fingerprint}{built}")
        for source, position in state.positions.items():
            print(f"{source}: {position}")
    return 0


@_state.command("compact")
@click.option(
    "--keep_days", type=click.FloatRange(min=0), default=10, show_default=True,
    help="Tombstones are kept for so many days before the newest version.",
)  # fmt: skip
@click.argument("uri")
def _compact_state(uri: str, keep_days: float) -> int:
    """Remove old tombstones, and make the file smaller.

    From then on, a change of an unknown document that is older than the kept tombstones is a dead letter.
    """
    with _opened_state(uri) as state:
        before = state.numbers()["bytes"]
        number = state.compact(state.facts.get("newest", 0) - round(keep_days * 86_400_000_000))
        print(f"{number:,} tombstones removed, {before:,} -> {state.numbers()['bytes']:,} bytes")
    return 0


@_state.command("check")
@click.argument("uri")
def _check_state(uri: str) -> int:
    """Read the whole file, and report damage.

    Exits with 1 if something is wrong.
    """
    with _opened_state(uri) as state:
        problems = list(state.problems())
    number = len(problems)
    for problem in problems:
        print(problem)
    print(f"{number:,} problems" if number else "no problems")
    return 1 if number else 0


@contextmanager
def _opened_state(uri: str, *, is_read_only: bool = False) -> Iterator[Any]:
    from boiler_beam.engine.state import SqliteState

    fix = "stop the stream; while it runs, use /metrics (--metrics_port)"
    with closing(SqliteState(_path_of_state(uri), fix, is_read_only=is_read_only)) as state:
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
