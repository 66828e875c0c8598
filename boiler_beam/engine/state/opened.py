"""From `memory:` or `sqlite:PATH` to a state."""

from __future__ import annotations

from boiler_beam.engine.state.base import State
from boiler_beam.engine.state.memory import MemoryState
from boiler_beam.engine.state.sqlite import SqliteState
from boiler_beam.errors import UsageError

__all__ = ["open_state"]


def open_state(uri: str) -> State:
    """The state at a URI; it is locked until it is closed.

    Raises:
        UsageError: The URI is none of a state, another program uses it, or it holds something else.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "memory" and not rest:
        return MemoryState()
    if scheme == "sqlite" and rest:
        return SqliteState(rest)
    raise UsageError(f"--state {uri}: expected memory: or sqlite:PATH; fix: write one of the two")
