"""Forms of tests, and the documents that they write."""

from __future__ import annotations

import os
import signal

import boiler_beam as bb
from boiler_beam import Ref

KILLED_AT = "BOILER_BEAM_TEST_KILLED_AT"
"""Names a file: the program that applies a form is killed when it has written, but not committed, and the file is not there."""


class Ticket(bb.DomainModel, collection="tickets"):
    user: str
    attendance: bool = False
    changes: int = 0


class AttendanceForm(bb.Form, collection="attendance_forms", author="user"):
    user: str
    ticket: Ref[Ticket]
    attends: bool

    def apply(self, tx: bb.Transaction) -> None:
        ticket = tx.get(Ticket, self.ticket)
        if ticket is None:
            raise bb.Rejected("there is no such ticket", field="ticket")
        if ticket.user != self.user:
            raise ValueError("that is not your ticket")
        ticket.attendance = self.attends
        ticket.changes += 1
        if self.user == "broken":
            raise KeyError("a mistake in the code")
        if self.user == "misfit":
            ticket.changes = "many"  # type: ignore[assignment]
        kill_once()


class JoinForm(bb.Form, collection="users/{user}/join_forms", after="delete", author="user"):
    name: str

    def apply(self, tx: bb.Transaction) -> None:
        tx.create(Ticket(user=self.user), f"of-{self.user}")  # type: ignore[attr-defined]


def kill_once() -> None:
    path = os.environ.get(KILLED_AT)
    if path and not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
