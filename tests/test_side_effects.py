"""The example of side effects: one mail for each ride, also if messages repeat or are late."""

from __future__ import annotations

import random
from pathlib import Path

from boiler_beam.connectors.pubsub.envelope import row_message
from boiler_beam.events import EncodedRow, Stamp
from examples.side_effects import Mails


def message(version: int, status: str, *, generation: int = 1) -> bytes:
    fields = b'{"headline":"Lea drives Ida","status":"%s"}' % status.encode()
    return row_message("RidePage", EncodedRow("ride_pages/x1", Stamp(generation, version, version), fields)).data


def test_one_mail_for_each_ride_that_ends(tmp_path: Path) -> None:
    sent: list[str] = []
    mails = Mails(str(tmp_path / "mails.db"), lambda path, text: sent.append(f"{path}: {text}"))
    mails.receive(message(1, "driving"))
    for _ in range(3):
        mails.receive(message(2, "done"))
    mails.receive(message(1, "driving"))
    mails.close()
    mails = Mails(str(tmp_path / "mails.db"), lambda path, text: sent.append(f"{path}: {text}"))
    mails.receive(message(2, "done"))
    assert sent == ["ride_pages/x1: Your ride is over: Lea drives Ida"]
    gone = row_message("RidePage", EncodedRow("ride_pages/x1", Stamp(1, 3, 3), None)).data
    mails.receive(gone)
    mails.receive(message(2, "done"))
    assert len(sent) == 1
    mails.close()


def test_in_any_order_never_twice(tmp_path: Path) -> None:
    for seed in range(20):
        sent: list[str] = []
        mails = Mails(str(tmp_path / f"{seed}.db"), lambda path, text, sent=sent: sent.append(path))
        some = [message(1, "driving"), message(2, "done")] * 3
        random.Random(seed).shuffle(some)
        for one in some:
            mails.receive(one)
        mails.close()
        assert sent == ["ride_pages/x1"]
