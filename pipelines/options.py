"""The options of a run, from the command line, the environment and pyproject.toml."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import click
from click.core import ParameterSource

from boiler_beam.connectors import Sink, open_sink
from boiler_beam.connectors.firestore.options import WriteOptions
from boiler_beam.errors import UsageError
from boiler_beam.plan import Plan
from boiler_beam.program.connecting import read_time_micros

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "CONTEXT",
    "KEYS",
    "NAMES",
    "RunOptions",
    "configuration",
    "did_you_mean",
    "options_of_a_database",
    "options_of_a_run",
    "sink_of",
    "write_options",
]

CONTEXT = {"token_normalize_func": lambda token: token.replace("-", "_"), "help_option_names": ["--help"]}
"""Settings of each command: options are written with hyphens or underscores."""

KEYS = ("views", "project", "database", "sink", "state", "store")


@dataclass(frozen=True)
class RunOptions:
    """The options of a run; the help texts below describe them."""

    runner: str | None
    source: tuple[str, ...]
    sink: str
    dead_letter: str | None
    mode: Literal["auto", "backfill", "stream"]
    state: str | None
    consistency: Literal["eventual", "commit"]
    coalesce_seconds: float
    allowed_lateness_seconds: float
    from_empty: bool
    metrics_port: int | None
    prune: Literal["safe", "all", "none"]
    read_time: int | None
    strict: bool
    explain: bool
    dry_run: bool
    ramp_up: bool
    row_seconds: float
    touches: bool
    beam_arguments: tuple[str, ...]
    project: str | None = None
    database: str | None = None
    given: frozenset[str] = frozenset()
    """The names of the options that were given on the command line."""


NAMES = tuple(name for name in RunOptions.__dataclass_fields__ if name not in ("beam_arguments", "given"))
"""The names of a run's options."""


def sink_of(options: RunOptions, plan: Plan) -> Sink:
    """Opens the sink, with the options of writing for a plan.

    Raises:
        UsageError: The URI is malformed, or its scheme is not one of a sink.
    """
    return open_sink(options.sink, write_options(options, plan))


def write_options(options: RunOptions, plan: Plan) -> WriteOptions:
    """Returns the options of writing a plan's rows to Firestore."""
    is_together = options.consistency == "commit"
    return WriteOptions(
        ramp_up=options.ramp_up,
        pace_seconds=options.row_seconds,
        is_together=is_together,
        references=plan.database.root,
        asks_topics=options.touches,
    )


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Returns a question for the end of a message that says that a name is unknown; empty if no known name is like it.

    >>> did_you_mean("--coalesce-second", ["--coalesce_seconds", "--consistency"])
    '. Did you mean --coalesce_seconds?'
    """
    close = get_close_matches(name.replace("-", "_"), [one.replace("-", "_") for one in known], n=1, cutoff=0.65)
    return "".join(f". Did you mean {one}?" for one in known if one.replace("-", "_") in close)


def configuration() -> dict[str, Any]:
    """Reads `[tool.boiler_beam]` of pyproject.toml in the working folder.

    Raises:
        UsageError: The file can't be read, or the table holds something else.
    """
    if not os.path.exists("pyproject.toml"):
        return {}
    try:
        with open("pyproject.toml", "rb") as file:
            table = tomllib.load(file).get("tool", {}).get("boiler_beam", {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"pyproject.toml: expected TOML that can be read, got: {error}; fix: correct it") from None
    for key, value in table.items():
        is_views = key == "views" and isinstance(value, list) and all(isinstance(one, str) for one in value)
        if key not in KEYS or not (isinstance(value, str) or is_views):
            raise UsageError(
                f"pyproject.toml: expected [tool.boiler_beam] to hold {', '.join(KEYS)} as text, "
                f"got {key} = {value!r}; fix: remove or correct it"
            )
    if isinstance(table.get("views"), str):
        table["views"] = [table["views"]]
    return dict(table)


_database_options: list[Callable[[Any], Any]] = [
    click.option(
        "--project", metavar="PROJECT", envvar="BOILER_BEAM_PROJECT",
        help="The project of the documents, if no source names one: references into it are local.  "
        "[default: any]",
    ),
    click.option(
        "--database", metavar="DATABASE", envvar="BOILER_BEAM_DATABASE",
        help="The database of the documents, if no source names one.  [default: (default)]",
    ),
]  # fmt: skip


def options_of_a_database(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--project` and `--database` to a command: the database into which references are local."""
    decorated: Any = command
    for option in reversed(_database_options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_OPTIONS = [
    click.option("--runner", metavar="NAME", help="A Beam runner; without it the embedded engine, in this process."),
    click.option(
        "--source", metavar="URI", multiple=True,
        help="The documents or changes: file:PATH, tail:PATH (a file that grows, without an end), sample:, "
        "firestore:PROJECT, pubsub:SUBSCRIPTION.",
    ),
    click.option(
        "--sink", metavar="URI", envvar="BOILER_BEAM_SINK", default="sqlite:boiler_beam.db", show_default=True,
        help="The sink of rows: sqlite:PATH, jsonl:PATH, parquet:FOLDER, firestore:PROJECT, pubsub:TOPIC.",
    ),
    click.option(
        "--dead_letter", metavar="URI",
        help="Where dead letters are written: jsonl:PATH, sqlite:PATH, firestore:PROJECT, gs:BUCKET/FOLDER, "
        "pubsub:TOPIC. Jobs on other machines need one of the last three.  [default: beside the sink]",
    ),
    click.option(
        "--mode", type=click.Choice(["auto", "backfill", "stream"]), default="auto", show_default=True,
        help="backfill: from the newest versions of all documents; stream: change by change; "
        "auto: a stream if a source is unbounded.",
    ),
    click.option(
        "--state", metavar="URI", envvar="BOILER_BEAM_STATE",
        help="The state of a stream: memory: (lost at the end) or sqlite:PATH.  "
        "[default: memory: if every source is bounded, else the sink's path + .state.db]",
    ),
    click.option(
        "--consistency", type=click.Choice(["eventual", "commit"]), default="eventual", show_default=True,
        help="Streams. eventual: a row may for a moment contain a part of a commit; commit: no row does, and rows are "
        "later, by --allowed_lateness_seconds.",
    ),
    click.option(
        "--coalesce_seconds", type=click.FloatRange(min=0), default=0.1, show_default=True,
        help="Streams: how long changes are gathered before the affected rows are written, once each; "
        "0: after each batch of a source.",
    ),
    click.option(
        "--allowed_lateness_seconds", type=click.FloatRange(min=0), default=10, show_default=True,
        help="With --consistency commit: how long after newer changes a change may arrive.",
    ),
    click.option(
        "--from_empty", is_flag=True,
        help="Follow an unbounded source without a snapshot: there are no documents before it.",
    ),
    click.option(
        "--metrics_port", type=click.IntRange(0, 65535),
        help="Streams: serve /metrics, /healthz and /readyz on this port; 0: any free one.",
    ),
    click.option(
        "--prune", type=click.Choice(["safe", "all", "none"]), default="safe", show_default=True,
        help="Which rows in the sink that were not computed are deleted; safe: none if too many would be.",
    ),
    click.option(
        "--read_time", metavar="T",
        help="The version of a backfill's rows: RFC 3339 or microseconds.  [default: the newest version read]",
    ),
    click.option("--strict", is_flag=True, help="Exit with 4 if there are dead letters; everything is written first."),
    click.option("--explain", is_flag=True, help="Print the plan and what a change affects; run nothing."),
    click.option(
        "--ramp_up/--no_ramp_up", default=True,
        help="Firestore: start at 500 writes a second, and raise the rate by half every 5 minutes.  [default: ramp_up]",
    ),
    click.option(
        "--row_seconds", type=click.FloatRange(min=0), default=1.0, show_default=True,
        help="Firestore: the minimal time between two writes of one row.",
    ),
    click.option(
        "--touches/--no_touches", default=True,
        help="Firestore: if a stream on Beam writes the views, a backfill asks it to write the rows that differ; "
        "no_touches: the backfill writes them, because that stream has ended for good.  [default: touches]",
    ),
    click.option("--dry_run", is_flag=True, help="Compute and report; write nothing."),
    *_database_options,
]  # fmt: skip


def _unknown(argument: str) -> str:
    """Returns what to say of an option that only Beam may know."""
    name = argument.partition("=")[0]
    known = [name for one in click.get_current_context().command.params for name in one.opts]
    return f"No such option or argument: {name} (Beam's own need --runner){did_you_mean(name, known)}"


def options_of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of a run to a command; unknown options are passed on to Beam."""

    def run(read_time: str | None, beam_arguments: tuple[str, ...], **given: Any) -> Any:
        runner, rest = given["runner"], {name: given[name] for name in ("views", "uri", "to") if name in given}
        known = {name: value for name, value in given.items() if name not in rest}
        if runner is None and beam_arguments:
            raise click.UsageError(_unknown(beam_arguments[0]))
        micros = None if read_time is None else read_time_micros(read_time)
        source = click.get_current_context().get_parameter_source
        typed = frozenset(name for name in known if source(name) is ParameterSource.COMMANDLINE)
        if runner is not None and "project" in typed:  # Beam has an option of the same name
            beam_arguments = (*beam_arguments, f"--project={known['project']}")
        options = RunOptions(**known, read_time=micros, beam_arguments=beam_arguments, given=typed)
        return command(options, **rest)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    decorated: Any = click.argument("beam_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM OPTIONS]")(run)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
