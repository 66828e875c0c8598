"""Runs a command as a program: errors become one line on stderr, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from boiler_beam.errors import BoilerBeamError, DeclarationError, UsageError
from pipelines.options import configuration

__all__ = ["execute"]

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def execute(command: click.Command, arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0 done, 1 failed, 2 wrong use, or the command's own."""
    try:
        code = _run(command, arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(command: click.Command, arguments: Sequence[str] | None) -> int:
    try:
        defaults = configuration()
        found = command.main(
            args=None if arguments is None else list(arguments),
            standalone_mode=False,
            default_map=_by_command(command, defaults),
        )
        return found if isinstance(found, int) else 0
    except click.ClickException as error:
        return _told(error.format_message(), WRONG_USE)
    except (UsageError, DeclarationError) as error:
        return _told(str(error), WRONG_USE)
    except BoilerBeamError as error:
        return _told(str(error), FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _told("interrupted; the sink is unchanged", INTERRUPTED)


def _by_command(command: click.Command, defaults: dict[str, object]) -> dict[str, object]:
    """Returns click's defaults for a command; for a group those of its commands."""
    if isinstance(command, click.Group):
        return {name: _by_command(inner, defaults) for name, inner in command.commands.items()}
    names = {parameter.name for parameter in command.params}
    return {name: value for name, value in defaults.items() if name in names}


def _told(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
