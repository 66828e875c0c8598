"""What a stream keeps between runs: `memory:`, which ends with the process, or `sqlite:PATH`, a log in a file.

    open_state  from a URI to a state
      |
      +-- base      State: what a stream keeps, in memory; StateUpdate and OutboxEntry: what a transaction has
      |
      +-- sqlite    SqliteState: the same in a file; tables `log`, `outbox`, `waiting`, `facts`
            |
          records   Batch: the documents and rows that one transaction changed, as they are in the log

A transaction:

    commit(update, engine)     documents and rows that changed, positions, outbox: all of it or nothing
    outbox()                   what the sink must take now
    sent(left)                 the sink has it; the next transaction removes it from the file

A start calls `open(engine)`: it reads the log, takes the last record of each document and row, and joins the documents.

>>> from boiler_beam.engine.incremental import IncrementalEngine
>>> from boiler_beam.engine.state.base import StateUpdate
>>> from boiler_beam.plan import compile_plan
>>> from boiler_beam.samples.meeting import MeetingSession
>>> engine, state = IncrementalEngine(compile_plan([MeetingSession]), print), open_state("memory:")
>>> state.open(engine)
>>> state.commit(StateUpdate(positions={"tail:changes.jsonl": "57"}), engine)
>>> state.is_durable, state.outbox()
(False, [])
"""

from boiler_beam.engine.state.base import State, ViewState
from boiler_beam.engine.state.sqlite import SqliteState
from boiler_beam.errors import UsageError

__all__ = ["SqliteState", "State", "ViewState", "open_state"]


def open_state(uri: str) -> State:
    """Opens the state at a URI; it is locked until it is closed.

    Raises:
        UsageError: The URI names no state, another program uses the state, or the file holds something else.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "memory" and not rest:
        return State()
    if scheme == "sqlite" and rest:
        return SqliteState(rest)
    raise UsageError(f"--state {uri}: expected memory: or sqlite:PATH; fix: write one of the two")
