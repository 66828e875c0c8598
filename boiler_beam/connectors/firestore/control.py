"""The control documents `_boiler/{view}` of a Firestore sink, and the lease in them.

A control document holds the generation of a view's rows (S13), and the lease of the one program that may write them
(S18).

| field | |
| --- | --- |
| `generation`, `fingerprint`, `holder`, `backfilled`, `topic` | `boiler_beam.connectors.Control` |
| `leased` | `HOLDER/PROGRAM` while a program writes the view: the id of its state, and a random name; else empty |
| `renewed` | when the lease was renewed, for people to read |

A lease expires when its document was not written for a minute by the server's clock, which is the difference between
its update time and the time of the read. Every write of a control document has the update time of the last read as its
precondition. So only one of two programs gets the lease, and a program that lost its lease notices.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc

from boiler_beam.connectors.base import Control
from boiler_beam.connectors.firestore.client import PASSING, Client, emulator_hint, explained, failure
from boiler_beam.connectors.firestore.protos import CommitRequest, RunQueryRequest, Write
from boiler_beam.connectors.firestore.throttle import back_off
from boiler_beam.connectors.firestore.values import micros_of_proto, put_micros
from boiler_beam.errors import BoilerBeamError, UsageError

__all__ = ["CONTROLS", "Lease", "Standing", "patiently", "read_controls"]

CONTROLS = "_boiler"
_log = logging.getLogger("boiler_beam")
_UNMET = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND}
_CALL_SECONDS, _START_SECONDS, _RENEW_SECONDS = 10.0, 60.0, 600.0
"""The timeout of one call, and how long it is repeated: at the start, and after rows were written; in seconds."""
_TOLD = (5, 15, 45, 135)
"""The attempts after which a missing answer is logged: after one second, and then more and more rarely."""
_LOOK_SECONDS = 5.0
"""The seconds between two reads of another program's lease."""


class Standing(NamedTuple):
    """A control document.

    Attributes:
        control: The control data.
        leased: The owner of the lease, `HOLDER/PROGRAM`.
        updated: Its update time, in microseconds since the epoch.
        age: The seconds since then, by the server's clock.
    """

    control: Control
    leased: str
    updated: int
    age: float

    @property
    def is_streamed(self) -> bool:
        """Whether a stream, not a backfill, has the lease."""
        return bool(self.control.holder) and self.leased.partition("/")[0] == self.control.holder


def read_controls(client: Client, seconds: float = _START_SECONDS) -> dict[str, Standing]:
    """Reads the control documents, by view name.

    Args:
        client: The database.
        seconds: How long the read is repeated.

    Raises:
        UsageError: The program has no permission, or the database does not exist.
        BoilerBeamError: They can't be read.
    """
    request = RunQueryRequest(parent=client.root.rstrip("/"))
    request.structured_query.from_.add(collection_id=CONTROLS)
    found = {}
    with explained(client.uri, "to read control documents"):
        for answer in patiently(lambda: list(client.call("RunQuery", request, _CALL_SECONDS)), seconds, client.uri):
            if not answer.HasField("document"):
                continue
            fields, updated = answer.document.fields, micros_of_proto(answer.document.update_time)
            control = Control(
                generation=fields["generation"].integer_value,
                fingerprint=fields["fingerprint"].string_value,
                holder=fields["holder"].string_value,
                backfilled=fields["backfilled"].integer_value,
                topic=fields["topic"].string_value,
            )
            name = answer.document.name.rpartition("/")[2]
            age = (micros_of_proto(answer.read_time) - updated) / 1e6
            found[name] = Standing(control, fields["leased"].string_value, updated, age)
    return found


def patiently(call: Callable[[], Any], seconds: float, uri: str) -> Any:
    """Repeats a call until it succeeds, fails permanently, or the time is over; logs a message now and then.

    Args:
        call: The call.
        seconds: How long it is repeated.
        uri: The URI of the database, for messages.
    """
    deadline, attempts = time.monotonic() + seconds, 0
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            code: Any = error.code()
            if code not in PASSING or time.monotonic() >= deadline:
                raise
        attempts += 1
        if attempts in _TOLD:
            left, hint = max(0.0, deadline - time.monotonic()), emulator_hint(code)
            _log.warning("%s: expected an answer, got %s; trying for %.0f s more%s", uri, code.name, left, hint)
        time.sleep(back_off(attempts, 1.0, most_seconds=2.0))


class Lease:
    """The exclusive right to write some views of a sink.

    Args:
        client: The database.
        lapse_seconds: The seconds after which a lease that was not renewed expires.
        renew_seconds: The seconds between two renewals.
        clock: Returns the time in seconds.
        wait: Sleeps for some seconds.
    """

    def __init__(
        self,
        client: Client,
        *,
        lapse_seconds: float = 60.0,
        renew_seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.lapse_seconds, self.renew_seconds = client, lapse_seconds, renew_seconds
        self.clock, self.wait = clock, wait
        self.program = uuid.uuid4().hex
        self.name = ""  # HOLDER/PROGRAM once the lease is taken
        self._times: dict[str, int] = {}  # the update time of each control document when this program wrote it last
        self._renewed = 0.0
        self._lost: BoilerBeamError | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, controls: Mapping[str, Control], holder: str = "") -> None:
        """Takes the lease, writes control data, and from then on renews the lease in a thread.

        Args:
            controls: The control data, by view name.
            holder: The id of the program's state. A lease of the same state is taken over at once; for that of another
                state it waits until the lease expires.

        Raises:
            UsageError: Another program writes these views, or started a newer generation.
        """
        seen: dict[str, int] = {}
        attempts = 0
        while True:
            standing = {name: one for name, one in read_controls(self.client).items() if name in controls}
            self._refuse_older(standing, controls)
            others = {name: one for name, one in standing.items() if self._is_others(one, holder)}
            for name, one in others.items():
                if name in seen and seen[name] != one.updated:
                    raise self._refused(name, one)
            if others:
                if not seen:
                    names = ", ".join(others)
                    _log.warning(
                        "%s: waits up to %.0f s for the lease of another program on %s to expire",
                        self.client.uri,
                        self.lapse_seconds,
                        names,
                    )
                seen = {name: one.updated for name, one in others.items()}
                left = max(self.lapse_seconds - one.age for one in others.values())
                self.wait(min(_LOOK_SECONDS, max(0.0, left) + 0.1))
            elif self._put(controls, {name: one.updated for name, one in standing.items()}, holder):
                break
            else:
                attempts += 1
                self.wait(back_off(attempts, 1.0, most_seconds=2.0))
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, daemon=True)
            self._thread.start()

    def _is_others(self, one: Standing, holder: str) -> bool:
        if not one.leased or one.age >= self.lapse_seconds:
            return False
        owner, _, program = one.leased.partition("/")
        return program != self.program and not (holder and owner == holder)

    def _refuse_older(self, standing: Mapping[str, Standing], controls: Mapping[str, Control]) -> None:
        for name, one in standing.items():
            if one.control.generation > controls[name].generation:
                raise UsageError(
                    f"{self.client.uri}: expected {name} to be of generation {controls[name].generation} at most, got "
                    f"{one.control.generation}, which another program began; fix: run it again, or stop the older one"
                )

    def _refused(self, name: str, one: Standing) -> UsageError:
        kind = "stream" if one.is_streamed else "backfill"
        return UsageError(
            f"{self.client.uri}: expected to be the only writer of {name}, got a {kind} that writes it "
            f"(renewed {one.age:.0f} s ago); fix: stop it, or wait until it ends"
        )

    def _put(self, controls: Mapping[str, Control], times: Mapping[str, int], holder: str) -> bool:
        """Writes control documents; returns False if one of them was changed by another program."""
        name = f"{holder}/{self.program}"
        writes = []
        for view, control in controls.items():
            write = self._leased(view, name, times.get(view))
            fields = write.update.fields
            fields["generation"].integer_value, fields["fingerprint"].string_value = (
                control.generation,
                control.fingerprint,
            )
            fields["holder"].string_value, fields["backfilled"].integer_value = control.holder, control.backfilled
            fields["topic"].string_value = control.topic
            writes.append(write)
        with self._lock:
            if not self._commit(list(controls), writes):
                return False
            self.name = name
            return True

    def _leased(self, view: str, name: str, micros: int | None) -> Any:
        """Returns a write with the owner of the lease and the precondition."""
        write = Write()
        write.update.name = f"{self.client.root}{CONTROLS}/{view}"
        write.update.fields["leased"].string_value = name
        # Without a changed field, a write would not change the update time.
        write.update_transforms.add(field_path="renewed", set_to_server_value=1)
        if micros is None:
            write.current_document.exists = False
        else:
            put_micros(write.current_document.update_time, micros)
        return write

    def _commit(self, views: Sequence[str], writes: Sequence[Any]) -> bool:
        request = CommitRequest(database=self.client.database, writes=writes)
        begun = self.clock()
        try:
            response = self.client.call("Commit", request, _CALL_SECONDS)
        except grpc.RpcError as error:
            code: Any = error.code()
            if code in _UNMET or code in PASSING:
                return False
            raise failure(self.client.uri, error, "control documents to be written") from error
        for view, result in zip(views, response.write_results, strict=True):
            self._times[view] = micros_of_proto(result.update_time)
        self._renewed = begun
        return True

    # While it is held -------------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Renews the lease; waits while the server does not answer.

        Raises:
            BoilerBeamError: Another program took it, or the server does not answer.
        """
        deadline, attempts = self.clock() + _RENEW_SECONDS, 0
        while not self._is_renewed():
            attempts += 1
            if self.clock() > deadline:
                raise BoilerBeamError(
                    f"{self.client.uri}: expected to renew the lease, got no answer for {_RENEW_SECONDS:.0f} s; "
                    "fix: check the network, then run again"
                )
            self.wait(back_off(attempts, 1.0, most_seconds=2.0))

    def _is_renewed(self) -> bool:
        """Tries once to renew the lease."""
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if self._commit(list(self._times), self._renewal(self.name)):
                return True
            self._adopt()
            return False

    def _renewal(self, name: str) -> list[Any]:
        writes = []
        for view, micros in self._times.items():
            write = self._leased(view, name, micros)
            write.update_mask.field_paths.append("leased")
            writes.append(write)
        return writes

    def _adopt(self) -> None:
        """Finds out after a failed renewal whether it was applied, or another program has the lease."""
        try:
            standing = read_controls(self.client, 0.0)
        except BoilerBeamError:  # not now
            return
        for view in self._times:
            one = standing.get(view)
            if one is None or one.leased != self.name:
                raise self._lose(view, one)
            self._times[view] = one.updated

    def _lose(self, view: str, one: Standing | None) -> BoilerBeamError:
        got = "no control document" if one is None else f"generation {one.control.generation} of another program"
        self._lost = BoilerBeamError(
            f"{self.client.uri}: expected to continue as the writer of {view}, got {got}, which took over; "
            "fix: let one of the two run"
        )
        return self._lost

    def check(self) -> None:
        """Checks that the lease is valid, and renews it if necessary.

        Raises:
            BoilerBeamError: Another program took it, or the server does not answer.
        """
        if not self.name:
            return
        if self._lost is not None:
            raise self._lost
        if self.clock() - self._renewed > self.lapse_seconds * 0.75:
            self.renew()

    def covers(self, micros: int) -> bool:
        """Returns whether the lease was certainly valid at a time of the server."""
        return not self._times or micros < min(self._times.values()) + self.lapse_seconds * 1e6

    def _keep(self) -> None:
        pause = self.renew_seconds
        while not self._ended.wait(pause):
            try:
                pause = self.renew_seconds if self._is_renewed() else min(1.0, self.renew_seconds)
            except BoilerBeamError as error:
                self._lost = error
                return

    def release(self) -> None:
        """Releases the lease, so that another program can take it at once."""
        self.stop()
        if self.name and self._lost is None:
            self._commit(list(self._times), self._renewal(""))

    def stop(self) -> None:
        """Stops renewing the lease."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
