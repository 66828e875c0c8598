r"""The options of a run as the parameters of a Flex Template: `metadata.json`, and back to a command line.

Dataflow passes each parameter once, as text, `--name=value`. So sources are written with commas between them, and a
flag is `true` or `false`:

>>> command_line(["--source=firestore:p,pubsub:projects/p/subscriptions/s", "--touches=false", "--region=r"])
['--source=firestore:p', '--source=pubsub:projects/p/subscriptions/s', '--no_touches', '--region=r']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import click

from boiler_beam.errors import UsageError
from pipelines.main import run_command

__all__ = ["KINDS", "OUTSIDE", "Kind", "checked", "command_line", "metadata"]

Kind = Literal["streaming", "backfill"]
KINDS: tuple[Kind, ...] = ("streaming", "backfill")

OUTSIDE = {
    "runner": "the launcher says DataflowRunner",
    "project": "Dataflow passes its own; references are local in the database that a source names",
    "mode": "the sources decide: with a subscription it is a stream, without one a backfill",
    "state": "a job keeps its state in Dataflow",
    "metrics_port": "a job's metrics are in Cloud Monitoring",
    "explain": "prints the plan, and runs nothing",
    "dry_run": "builds the job, and submits nothing",
    "strict": "changes the exit code of a program that waits for the job",
    "help": "prints the options",
}
"""The options of a run that are no parameters, each with the reason."""

_OF_STREAMS = ("consistency", "coalesce_seconds", "allowed_lateness_seconds", "from_empty")
_OF_BACKFILLS = ("prune", "touches")

_PROJECT = r"[a-z][a-z0-9.:-]{3,62}[a-z0-9]"
_DATABASE = rf"firestore:{_PROJECT}(/[a-z0-9()-]+)?"
_NAME = r"[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
_DATE, _CLOCK = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_NUMBER = r"[0-9]+(\.[0-9]+)?"
_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(,[A-Za-z_]\w*)*)?"
_SUBSCRIPTION, _TOPIC = (rf"pubsub:projects/{_PROJECT}/{kind}/{_NAME}" for kind in ("subscriptions", "topics"))

_PATTERNS: dict[str, str] = {
    "views": rf"^{_MODULE}( {_MODULE})*$",
    "sink": rf"^({_DATABASE}|{_TOPIC})$",  # the others are files, on the disk of a worker
    "dead_letter": rf"^({_DATABASE}|{_TOPIC}|gs:(//)?{_BUCKET}(/.*)?)$",
    "read_time": rf"^([0-9]{{1,19}}|{_DATE}T{_CLOCK})$",
    "database": r"^[a-z0-9()-]+$",
}
_SOURCES: dict[Kind, str] = {
    "streaming": rf"^(({_DATABASE}|sample:),)*{_SUBSCRIPTION}$",
    "backfill": rf"^({_DATABASE}|sample:)(,{_DATABASE})*$",
}
_REQUIRED = ("source", "sink")


def _options() -> dict[str, click.Option]:
    """Returns the options of a run, by their names."""
    found = {one.name: one for one in run_command.params if isinstance(one, click.Option)}
    return {name: one for name, one in found.items() if name is not None}


def _pattern(option: click.Option, kind: Kind) -> str:
    """Returns the regular expression of an option's values."""
    name, of = option.name or "", option.type
    if name == "source":
        return _SOURCES[kind]
    if name in _PATTERNS:
        return _PATTERNS[name]
    if option.is_flag:
        return "^(true|false)$"
    if isinstance(of, click.Choice):
        return f"^({'|'.join(map(str, of.choices))})$"
    if isinstance(of, (click.IntRange, click.types.IntParamType)):
        return "^[0-9]+$"
    if isinstance(of, (click.FloatRange, click.types.FloatParamType)):
        return f"^{_NUMBER}$"
    raise UsageError(f"--{name}: expected a pattern of its values, got none; fix: add one to {__name__}")


def _help(option: click.Option) -> str:
    """Returns an option's help, with its default."""
    text = " ".join((option.help or "").split())
    if option.show_default and option.default is not None:
        text += f" Default: {option.default}."
    if option.multiple and option.name == "source":
        text += " Several with commas between them."
    return text


def _parameters(kind: Kind) -> Iterator[dict[str, Any]]:
    left_out = {*OUTSIDE, *(_OF_BACKFILLS if kind == "streaming" else _OF_STREAMS)}
    for name, option in _options().items():
        if name in left_out:
            continue
        yield {
            "name": name,
            "label": name.replace("_", " ").capitalize(),
            "helpText": _help(option),
            "isOptional": name not in _REQUIRED,
            "regexes": [_pattern(option, kind)],
        }


def metadata(kind: Kind, name: str) -> dict[str, Any]:
    """Returns the content of a template's `metadata.json`.

    Args:
        kind: Of the template.
        name: The name of the deployment.

    >>> [one["name"] for one in metadata("backfill", "meeting")["parameters"] if not one["isOptional"]]
    ['source', 'sink']
    """
    described = {
        "streaming": "Follows changes of Firestore's documents, and rewrites the rows of views that they affect.",
        "backfill": "Computes all rows of views from Firestore's documents, and writes those that differ.",
    }
    found: dict[str, Any] = {
        "name": f"{name} {kind}",
        "description": described[kind],
        "parameters": list(_parameters(kind)),
    }
    if kind == "streaming":
        # The steps of a stream add up messages, so they need each message once.
        found |= {"streaming": True, "supportsAtLeastOnce": False, "supportsExactlyOnce": True}
    return found


def checked(kind: Kind, given: dict[str, str]) -> dict[str, str]:
    """Checks values as Dataflow does before it starts a launcher, and returns them.

    Raises:
        UsageError: A parameter is missing, unknown or malformed.
    """
    known = {one["name"]: one for one in _parameters(kind)}
    for name in [name for name, one in known.items() if not one["isOptional"] and name not in given]:
        raise UsageError(f"--{name}: expected a value, got none; fix: add --{name}")
    for name, value in given.items():
        if name not in known:
            raise UsageError(
                f"{name}: expected a parameter of the {kind} template, got another; fix: {', '.join(known)}"
            )
        (pattern,) = known[name]["regexes"]
        if re.fullmatch(pattern, value) is None:
            raise UsageError(f"--{name}: expected {pattern}, got {value!r}; fix: correct it")
    return given


def command_line(arguments: Sequence[str]) -> list[str]:
    """Returns the command line of a run for what Dataflow passes to a launcher.

    Args:
        arguments: `--name=value`, of parameters and of Beam's options.
    """
    options, found = _options(), []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        option = options.get(name)
        if option is None or not equals or not argument.startswith("--"):
            found.append(argument)
        elif option.is_flag:
            words = option.opts if value.lower() == "true" else option.secondary_opts
            found += words[:1]
        elif option.multiple:
            separator = "," if name == "source" else None
            found += [f"--{name}={one}" for one in value.split(separator)]
        else:
            found.append(argument)
    return found
