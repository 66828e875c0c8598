"""Control documents keep generations (S13), and the lease in them admits one writer (S18)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import grpc
import pytest

from boiler_beam.connectors import Control
from boiler_beam.connectors.firestore.client import Client
from boiler_beam.connectors.firestore.control import Lease, read_controls
from boiler_beam.connectors.firestore.protos import CommitRequest, Write
from boiler_beam.errors import BoilerBeamError, UsageError
from tests.helpers.faults import Call, Fault, Proxy

FIRST = {
    "One": Control(generation=1, fingerprint="f", holder="s1"),
    "Two": Control(generation=4, fingerprint="g", holder="s1"),
}
SECOND = {"One": Control(generation=2, fingerprint="f", holder="s2", backfilled=17)}
_NEVER = 3600.0


@pytest.fixture(name="proxy")
def _proxy(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(firestore_emulator) as proxy:
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", proxy.address)
        yield proxy


@pytest.fixture(name="client")
def _client(proxy: Proxy, project: str) -> Iterator[Client]:
    client = Client(project)
    yield client
    client.close()


@pytest.fixture(name="lease")
def _lease(client: Client) -> Iterator[Callable[..., Lease]]:
    made: list[Lease] = []

    def lease(lapse_seconds: float = 60.0, wait: Callable[[float], None] = time.sleep, renew: float = _NEVER) -> Lease:
        made.append(Lease(client, lapse_seconds=lapse_seconds, renew_seconds=renew, wait=wait))
        return made[-1]

    yield lease
    for one in made:
        one.stop()


def never(seconds: float) -> None:
    raise AssertionError("waited")


def test_control_data_comes_back(client: Client, lease: Callable[..., Lease]) -> None:
    """The control document keeps generation and fingerprint (S13)."""
    assert read_controls(client) == {}
    lease().take(FIRST, "s1")
    assert {name: one.control for name, one in read_controls(client).items()} == FIRST
    assert all(one.is_streamed and one.age >= 0 for one in read_controls(client).values())


def test_the_same_state_takes_over_at_once(client: Client, lease: Callable[..., Lease]) -> None:
    """A lease belongs to a state: a restart from that state does not wait (S18)."""
    killed = lease()
    killed.take(FIRST, "s1")
    lease(wait=never).take(FIRST, "s1")
    with pytest.raises(
        BoilerBeamError, match=r"expected to continue as the writer of One, got generation 1 of another"
    ):
        killed.renew()


def test_a_released_lease_is_taken_at_once(client: Client, lease: Callable[..., Lease]) -> None:
    first = lease()
    first.take(FIRST, "s1")
    first.release()
    assert read_controls(client)["One"].control == FIRST["One"]
    assert not read_controls(client)["One"].is_streamed
    lease(wait=never).take(SECOND, "s2")


def test_another_program_waits_and_is_refused_when_the_lease_is_renewed(
    client: Client, lease: Callable[..., Lease]
) -> None:
    """Of two programs that feed one sink the second refuses, by the lease (S18)."""
    first = lease()
    first.take(FIRST, "s1")
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            first.renew()

    with pytest.raises(UsageError, match=r"only writer of One, got a stream that writes it .* fix: stop it, or wait"):
        lease(wait=wait).take(SECOND, "s2")
    assert len(waited) == 3
    assert max(waited) <= 5
    assert {name: one.control for name, one in read_controls(client).items()} == FIRST


def test_a_lease_that_lapsed_is_anybodys(client: Client, lease: Callable[..., Lease]) -> None:
    """A lease that was not renewed for a minute expires (S18)."""
    killed = lease()
    killed.take(FIRST, "s1")
    killed.stop()
    lease(lapse_seconds=0.5).take(SECOND, "s2")
    assert read_controls(client)["One"].control == SECOND["One"]
    assert read_controls(client)["Two"].control == FIRST["Two"]
    assert killed.covers(read_controls(client)["Two"].updated)
    with pytest.raises(BoilerBeamError, match=r"writer of One, got generation 2 of another program, which took over"):
        killed.renew()
    with pytest.raises(BoilerBeamError, match="took over"):
        killed.check()


def test_a_lapsed_lease_that_nobody_took_holds_on(client: Client, lease: Callable[..., Lease]) -> None:
    times = [0.0]
    one = Lease(client, renew_seconds=_NEVER, clock=lambda: times[0])
    one.take(FIRST, "s1")
    before = read_controls(client)["One"].updated
    one.check()
    assert read_controls(client)["One"].updated == before
    times[0] = 500.0
    one.check()
    assert read_controls(client)["One"].updated > before
    one.stop()


def test_it_is_renewed_in_the_background(client: Client, lease: Callable[..., Lease]) -> None:
    one = lease(renew=0.02)
    one.take(FIRST, "s1")
    before, deadline = read_controls(client)["One"].updated, time.monotonic() + 60
    while read_controls(client)["One"].updated == before:
        assert time.monotonic() < deadline
    assert {name: found.control for name, found in read_controls(client).items()} == FIRST


def test_a_program_of_an_older_generation_stops(client: Client, lease: Callable[..., Lease]) -> None:
    """A program that finds a newer generation in the sink stops (S13)."""
    first = lease()
    first.take({"One": Control(generation=7, fingerprint="f", holder="s1")}, "s1")
    first.release()
    with pytest.raises(
        UsageError, match=r"expected One to be of generation 2 at most, got 7, which another program began"
    ):
        lease().take(SECOND, "s2")


def test_two_that_take_it_at_once(client: Client, lease: Callable[..., Lease]) -> None:
    """Of two programs that take the lease at the same time, one gets it, and the other notices (S18)."""
    rival = lease()
    both = dict.fromkeys(("One", "Two"), SECOND["One"])

    def policy(call: Call) -> Fault | None:
        return Fault(before=lambda: rival.take(both, "s2")) if call.method == "Commit" and not call.number else None

    late = lease(wait=lambda seconds: rival.renew())
    with Proxy(client.emulator, policy) as between:
        late.client = Client(client.database.split("/")[1], {"FIRESTORE_EMULATOR_HOST": between.address})
        with pytest.raises(UsageError, match="only writer"):
            late.take({"One": Control(generation=2, fingerprint="f", holder="s3")}, "s3")
        late.client.close()
    assert read_controls(client)["One"].control == SECOND["One"]


@pytest.mark.parametrize("is_done", [True, False])
def test_an_answer_that_is_lost(client: Client, proxy: Proxy, lease: Callable[..., Lease], is_done: bool) -> None:
    fault = Fault(grpc.StatusCode.UNAVAILABLE, is_done=is_done)
    proxy.policy = lambda call: fault if call.method == "Commit" and call.number % 2 == 0 else None
    one = lease(wait=lambda seconds: None)
    one.take(FIRST, "s1")
    one.renew()
    one.renew()
    assert {name: found.control for name, found in read_controls(client).items()} == FIRST


def test_it_waits_while_the_server_is_away(client: Client, proxy: Proxy, lease: Callable[..., Lease]) -> None:
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 5:
            proxy.policy = lambda call: None

    one = lease(wait=wait)
    one.take(FIRST, "s1")
    proxy.policy = lambda call: Fault(grpc.StatusCode.UNAVAILABLE)
    one.renew()
    assert len(waited) == 5


def test_a_control_document_that_was_deleted(client: Client, lease: Callable[..., Lease]) -> None:
    one = lease()
    one.take(FIRST, "s1")
    write = Write(delete=f"{client.root}_boiler/Two")
    client.call("Commit", CommitRequest(database=client.database, writes=[write]))
    with pytest.raises(BoilerBeamError, match=r"writer of Two, got no control document"):
        one.renew()
