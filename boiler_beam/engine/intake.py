"""Reads sources in batches: the events that come within the coalescing window are taken together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from boiler_beam.connectors.base import Source
from boiler_beam.events import Event

__all__ = ["SourceBatch", "gather"]


@dataclass
class SourceBatch:
    """Events of one or more sources, in each one's order.

    Attributes:
        events: Empty where nothing came for a while.
        positions: How far each source was read with them, by URI.
        origins: For each batch of a source: the number of its events, the source's URI, and the positions before and
            after it.
    """

    events: list[Event] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    origins: list[tuple[int, str, str | None, str]] = field(default_factory=list)


def gather(
    sources: Sequence[Source],
    positions: Mapping[str, str],
    seconds: float,
    most: int,
    clock: Callable[[], float],
    should_stop: Callable[[], bool],
) -> Iterator[SourceBatch]:
    """Follows sources from where they were read to; several unbounded ones side by side, others one after the other.

    Args:
        sources: All bounded, or all unbounded.
        positions: How far each was read, by URI.
        seconds: The coalescing window; 0: each batch of a source.
        most: A batch ends when it has so many events.
        clock: Seconds.
        should_stop: Called after each batch of a source; the last batch is returned when it is true.
    """
    if len(sources) > 1 and not sources[0].is_bounded:
        batches = _side_by_side(sources, positions)
    else:
        batches = _in_turn(sources, positions)
    found, deadline, before = SourceBatch(), 0.0, dict(positions)
    with closing(batches):
        for uri, events, position in batches:
            if not found.events:
                deadline = clock() + seconds
            if events:
                found.events += events
                found.origins.append((len(events), uri, before.get(uri), position))
            found.positions[uri] = before[uri] = position
            is_end = should_stop()
            if is_end or not found.events or len(found.events) >= most or clock() >= deadline:
                yield found
                found = SourceBatch()
            if is_end:
                return
    if found.positions:
        yield found


Batches = Generator[tuple[str, Sequence[Event], str], None, None]


def _in_turn(sources: Sequence[Source], positions: Mapping[str, str]) -> Batches:
    for source in sources:
        for events, position in source.follow(positions.get(source.uri)):
            yield source.uri, events, position


def _side_by_side(sources: Sequence[Source], positions: Mapping[str, str]) -> Batches:
    """Each source in a thread of its own, which waits until its last batch was taken: nothing piles up."""
    found: queue.SimpleQueue[tuple[int, tuple[str, Sequence[Event], str]] | BaseException | None] = queue.SimpleQueue()
    taken = [threading.Semaphore(0) for _ in sources]
    is_over = threading.Event()

    def run(index: int, source: Source) -> None:
        try:
            with closing(_in_turn([source], positions)) as batches:
                for batch in batches:
                    found.put((index, batch))
                    taken[index].acquire()
                    if is_over.is_set():
                        return
            found.put(None)
        except BaseException as error:  # raised again where the batches are taken
            found.put(error)

    threads = [threading.Thread(target=run, args=one, name=one[1].uri) for one in enumerate(sources)]
    for thread in threads:
        thread.start()
    left = len(sources)
    try:
        while left:
            one = found.get()
            if isinstance(one, BaseException):
                raise one
            if one is None:
                left -= 1
            else:
                index, batch = one
                taken[index].release()
                yield batch
    finally:
        is_over.set()
        for semaphore in taken:
            semaphore.release()
        for thread in threads:
            thread.join()
