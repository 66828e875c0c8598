"""Consistency `commit` (S19): transfers between accounts, each a commit of two documents; the sum is always 0."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

import boiler_beam as bb
from boiler_beam import aggregate, group, view_property
from boiler_beam.engine.follow import Settings
from boiler_beam.events import EncodedRow
from boiler_beam.oracle import compute
from boiler_beam.plan import PlanName, compile_plan, load_plan
from tests.helpers.engine import Batches, WatchedSink, cut, followed, lived
from tests.helpers.executors import streamed_on_beam
from tests.helpers.histories import Event, changes, lines

ACCOUNTS, LATE_SECONDS = 10, 10.0


class Account(bb.DomainModel, collection="accounts"):
    bank: str
    balance: int


class Total(bb.ViewModel, collection="totals"):
    class Store(bb.Store):
        accounts: dict[str, Account] = group(Account, by="bank")

    store: Store
    total = aggregate.sum("accounts", of="balance")

    @view_property
    def balances(self) -> list[int]:
        return [account.balance for account in self.store.accounts.values()]


def transfers(number: int) -> list[Event]:
    """Ten accounts that are created in one commit, and 100 seconds of transfers between two of them, in order."""
    order, balances = random.Random(number), [0] * ACCOUNTS
    apart_micros = 100_000_000 // number
    versions = range(1, (number + 1) * apart_micros, apart_micros)
    table: list[Event] = [(f"accounts/a{one}", 1, {"bank": "b", "balance": 0}) for one in range(ACCOUNTS)]
    for version in versions[1:]:
        amount, (payer, payee) = order.randint(1, 99), order.sample(range(ACCOUNTS), 2)
        for one, change in ((payer, -amount), (payee, amount)):
            balances[one] += change
            table.append((f"accounts/a{one}", version, {"bank": "b", "balance": balances[one]}))
    return table


def late(table: list[Event], order: random.Random) -> list[Event]:
    """Returns changes in the order of their arrival, each up to ten seconds late."""
    return sorted(table, key=lambda event: event[1] + order.random() * LATE_SECONDS * 1e6)


def sums(rows: Iterable[EncodedRow]) -> list[int]:
    """Returns the sums in the rows, by an aggregate and by a getter that reads every account."""
    fields = [json.loads(row.fields or b"null") for row in rows]
    return [total for one in fields for total in (one["total"], sum(one["balances"]))]


@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_s19_no_row_of_the_engine_holds_half_a_transfer(number: int) -> None:
    plan, table, order = compile_plan([Total]), transfers(number), random.Random(number)
    arriving = cut(changes(late(table, order)), order, 50)
    seen: dict[str, list[int]] = {}
    for name, seconds in (("commit", LATE_SECONDS), ("eventual", None)):
        sink, settings = WatchedSink(), Settings(coalesce_seconds=0, lateness_seconds=seconds)
        outcome, report = followed(plan, [Batches("all", arriving)], sink, settings=settings)
        assert (report.changes, report.late) == (len(table), 0)
        assert outcome.rows == compute(plan, changes(table)).rows
        seen[name] = sums(sink.history)
        assert len(seen[name]) > number / 50, "rows follow: not only the last one is given"
        assert seen[name][-2:] == [0, 0]
    assert set(seen["commit"]) == {0}
    assert any(seen["eventual"]), "the same changes break it where rows are eventual"


def test_s19_nor_does_one_of_an_engine_that_was_killed(tmp_path: Path) -> None:
    plan, table, order = compile_plan([Total]), transfers(1_000), random.Random(3)
    source = Batches("all", cut(changes(late(table, order)), order, 50))
    settings = Settings(coalesce_seconds=0, lateness_seconds=LATE_SECONDS)
    outcome, sink = lived(plan, [source], tmp_path / "state.db", order, 12, settings)
    assert outcome.rows == compute(plan, changes(table)).rows
    assert len(sink.history) > 20
    assert set(sums(sink.history)) == {0}


@pytest.mark.beam
def test_s19_no_row_of_a_pipeline_holds_half_a_transfer(tmp_path: Path) -> None:
    """FnApiRunner delivers changes in any order, and advances its watermark after all of them."""
    pytest.importorskip("apache_beam", reason="Beam is an extra: other Pythons run without it")
    plan, table = load_plan(PlanName((f"{__name__}:Total",))), transfers(50)
    arriving = late(table, random.Random(1))
    outcome = streamed_on_beam(plan, lines(arriving), tmp_path, consistency="commit")
    assert outcome.rows == compute(plan, changes(table)).rows
    written = [json.loads(line)["fields"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(written) == 51, "each commit is given"
    assert {one["total"] for one in written} == {sum(one["balances"]) for one in written} == {0}
