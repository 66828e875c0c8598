"""Ends a program's work cleanly at the first ^C or SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["asked_to_end", "on_signals"]

_ENDING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_signals(
    ask: Callable[[], None], again: Callable[[], None] = lambda: None, *, only_default: bool = False
) -> Iterator[None]:
    """Calls a function at the first ^C or SIGTERM within the context; the second one raises KeyboardInterrupt.

    Args:
        ask: It runs in the main thread, between two instructions of the program.
        again: Called at the second signal. The KeyboardInterrupt may be raised inside a lock, which turns it into
            another error.
        only_default: Whether signals that the program handles itself are left to it.
    """
    asked: list[int] = []

    def handle(number: int, _: object) -> None:
        if asked:
            again()
            raise KeyboardInterrupt
        asked.append(number)
        ask()

    taken = [number for number in _ENDING if not only_default or signal.getsignal(number) in _DEFAULT]
    old = {number: signal.signal(number, handle) for number in taken}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGTERM or ^C was received; then the program completes its writes."""
    asked: list[bool] = []
    with on_signals(lambda: asked.append(True)):
        yield lambda: bool(asked)
