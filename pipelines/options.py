"""The options of a run: from the command line, the environment and pyproject.toml."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import click

from boiler_beam.errors import UsageError
from boiler_beam.values import INT64_MAX, from_wire, micros_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "RunOptions", "configuration", "options_of_a_run", "read_time_micros"]

KEYS = ("views", "project", "database", "sink", "state")


@dataclass(frozen=True)
class RunOptions:
    """What a run is told; see the help of each option."""

    runner: str | None
    source: tuple[str, ...]
    sink: str
    dead_letter: str | None
    prune: Literal["safe", "all", "none"]
    read_time: int | None
    strict: bool
    explain: bool
    dry_run: bool
    beam_arguments: tuple[str, ...]


def configuration() -> dict[str, Any]:
    """`[tool.boiler_beam]` of pyproject.toml in the working folder.

    Raises:
        UsageError: The file can't be read, or the table holds something else.
    """
    if not os.path.exists("pyproject.toml"):
        return {}
    try:
        with open("pyproject.toml", "rb") as file:
            table = tomllib.load(file).get("tool", {}).get("boiler_beam", {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"pyproject.toml: expected TOML that can be read, got: {error}; mend: correct it") from None
    for key, value in table.items():
        is_views = key == "views" and isinstance(value, list) and all(isinstance(one, str) for one in value)
        if key not in KEYS or not (isinstance(value, str) or is_views):
            raise UsageError(
                f"pyproject.toml: expected [tool.boiler_beam] to hold {', '.join(KEYS)} as text, "
                f"got {key} = {value!r}; mend: remove or correct it"
            )
    if isinstance(table.get("views"), str):
        table["views"] = [table["views"]]
    return dict(table)


def read_time_micros(text: str) -> int:
    """Microseconds since the epoch of RFC 3339 or an integer.

    Raises:
        UsageError: It is neither.
    """
    if text.isdecimal() and int(text) <= INT64_MAX:
        return int(text)
    try:
        moment = from_wire({"timestampValue": text})
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise UsageError(
            f"--read_time {text}: expected RFC 3339 (2026-01-01T00:00:00Z) or microseconds since the epoch; "
            "mend: write one of the two"
        )
    return micros_of(moment)


_OPTIONS = [
    click.option("--runner", metavar="NAME", help="A Beam runner; without it the embedded engine, in this process."),
    click.option("--source", metavar="URI", multiple=True, help="Where documents come from: file:PATH, sample:."),
    click.option(
        "--sink", metavar="URI", envvar="BOILER_BEAM_SINK", default="sqlite:boiler_beam.db", show_default=True,
        help="Where rows go: sqlite:PATH, jsonl:PATH, parquet:FOLDER.",
    ),
    click.option("--dead_letter", metavar="URI", help="Where unusable inputs go.  [default: beside the sink]"),
    click.option(
        "--mode", type=click.Choice(["auto", "backfill"]), default="auto", show_default=True,
        help="How rows are computed; this version backfills.",
    ),
    click.option(
        "--prune", type=click.Choice(["safe", "all", "none"]), default="safe", show_default=True,
        help="Which rows that were not computed are deleted; safe: unless too many would go.",
    ),
    click.option("--read_time", metavar="T", help="The rows' version.  [default: the newest version read]"),
    click.option("--strict", is_flag=True, help="Exit with 4 when there are dead letters."),
    click.option("--explain", is_flag=True, help="Print the plan and what a change touches; run nothing."),
    click.option("--dry_run", is_flag=True, help="Compute and report; write nothing."),
]  # fmt: skip


def options_of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of a run; what it does not know goes to Beam."""

    def run(mode: str, read_time: str | None, beam_arguments: tuple[str, ...], **given: Any) -> Any:
        runner, rest = given["runner"], {name: value for name, value in given.items() if name == "views"}
        known = {name: value for name, value in given.items() if name != "views"}
        if runner is None and beam_arguments:
            raise click.UsageError(f"No such option or argument: {beam_arguments[0]} (Beam's own need --runner)")
        micros = None if read_time is None else read_time_micros(read_time)
        return command(RunOptions(**known, read_time=micros, beam_arguments=beam_arguments), **rest)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    decorated: Any = click.argument("beam_arguments", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM OPTIONS]")(run)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
