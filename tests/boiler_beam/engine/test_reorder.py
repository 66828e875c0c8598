"""Whole commits: what waits, what is let go, what is late (S19)."""

from __future__ import annotations

from boiler_beam.engine.reorder import Reorder
from tests.helpers.histories import change


def pushed(reorder: Reorder, *events: tuple[str, int]) -> list[tuple[str, int]]:
    """What each of some changes lets go, in order."""
    return [(one.path, one.version) for event in events for one in reorder.push(change(*event, {}))]


def test_s19_a_change_as_late_as_is_allowed_joins_its_commit() -> None:
    reorder = Reorder(10)
    assert pushed(reorder, ("a/1", 100), ("b/1", 110), ("a/2", 100)) == []
    assert reorder.late == 0
    assert pushed(reorder, ("b/2", 111)) == [("a/1", 100), ("a/2", 100)], "a commit in the order of its arrival"
    assert (reorder.released, reorder.late) == (100, 0)
    assert pushed(reorder, ("a/3", 100)) == [("a/3", 100)], "too late: it is not held"
    assert reorder.late == 1
    assert [(one.path, one.version) for one in reorder.rest()] == [("b/1", 110), ("b/2", 111)]
    assert pushed(reorder, ("b/3", 111)) == [("b/3", 111)]
    assert reorder.late == 2


def test_s19_what_was_let_go_is_not_waited_for_again() -> None:
    reorder = Reorder(10)
    assert pushed(reorder, ("a/1", 200), ("b/1", 195)) == []
    assert reorder.released == 189
    assert pushed(reorder, ("a/2", 188)) == [("a/2", 188)]
    assert reorder.is_late(change("a/3", 189, {}))
    assert not reorder.is_late(change("a/3", 190, {}))


def test_s19_it_goes_on_with_what_waited() -> None:
    reorder = Reorder(10, [change("a/1", 100, {}), change("b/1", 105, {})], released=95)
    assert pushed(reorder, ("a/0", 95)) == [("a/0", 95)]
    assert pushed(reorder, ("c/1", 112)) == [("a/1", 100)]
    assert [one.path for one in reorder.rest()] == ["b/1", "c/1"]
    assert list(reorder.rest()) == []
