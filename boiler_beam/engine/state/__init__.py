"""Where an engine keeps its cells, its outbox and its positions: `memory:` or `sqlite:PATH`."""

from boiler_beam.engine.state.base import State, ViewState
from boiler_beam.engine.state.memory import MemoryState
from boiler_beam.engine.state.opened import open_state
from boiler_beam.engine.state.sqlite import SqliteState

__all__ = ["MemoryState", "SqliteState", "State", "ViewState", "open_state"]
