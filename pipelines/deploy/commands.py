"""The `gcloud` commands of a deployment, to be printed or run."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from boiler_beam.errors import BoilerBeamError, UsageError

__all__ = ["Command", "gcloud", "joined", "output_of", "run", "script"]


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        about: What it does.
        words: The command line.
        is_later: Whether a person runs it, at another time: it is printed only.
    """

    about: str
    words: tuple[str, ...]
    is_later: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words)


def gcloud(about: str, *words: str, is_later: bool = False, **flags: Any) -> Command:
    """Returns a command of `gcloud`.

    >>> print(gcloud("drains", "dataflow", "jobs", "drain", "ID", project="p", region=None, quiet=True))
    gcloud dataflow jobs drain ID --project=p --quiet
    """
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in flags.items()
        if value not in (None, False)
    ]
    return Command(about, ("gcloud", *words, *given), is_later)


def joined(values: Mapping[str, str]) -> str:
    """Returns a dictionary as a flag's value, with a delimiter that no value holds.

    >>> joined({"source": "firestore:p,pubsub:projects/p/subscriptions/s", "sink": "firestore:p"})
    '^|^source=firestore:p,pubsub:projects/p/subscriptions/s|sink=firestore:p'
    """
    parts = [f"{name}={value}" for name, value in values.items()]
    return ",".join(parts) if not any("," in part for part in parts) else "^|^" + "|".join(parts)


def script(commands: Iterable[Command]) -> str:
    """Returns the commands as a shell script; those for later are comments."""
    lines = ["#!/bin/sh", "# Made by boiler-beam deploy: what it runs, and what you run later.", "set -eu", ""]
    for one in commands:
        lines += [f"# {one.about}", f"# {one}" if one.is_later else str(one), ""]
    return "\n".join(lines)


def run(commands: Sequence[Command]) -> None:
    """Runs the commands one after the other, each printed before.

    Raises:
        BoilerBeamError: One failed; those before it were run.
        UsageError: There is no gcloud.
    """
    for one in commands:
        if one.is_later:
            continue
        print(f"{one.about}\n  {one}", file=sys.stderr, flush=True)
        try:
            code = subprocess.run(one.words, check=False).returncode
        except FileNotFoundError:
            raise UsageError(
                f"{one.words[0]}: expected the Google Cloud SDK, got none; fix: install it, or run deploy with "
                "--dry_run and take its commands elsewhere"
            ) from None
        if code:
            raise BoilerBeamError(f"{one}: expected it to succeed, got exit code {code}; fix: see its message above")


def output_of(command: Command) -> str:
    """Returns what a command prints.

    Raises:
        UsageError: It failed.
    """
    try:
        done = subprocess.run(command.words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UsageError(f"{command.words[0]}: expected the Google Cloud SDK, got none; fix: install it") from None
    if done.returncode:
        raise UsageError(f"{command}: expected it to succeed, got: {done.stderr.strip()}; fix: {command.about}")
    return done.stdout
