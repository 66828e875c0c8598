"""The form of the serving benchmark: a participant says whether they attend."""

from __future__ import annotations

import boiler_beam as bb
from boiler_beam import Ref
from boiler_beam.samples.meeting import Ticket

__all__ = ["AttendanceForm"]


class AttendanceForm(bb.Form, collection="attendance_forms", author="user"):
    """Sets the attendance of a ticket."""

    user: str
    ticket: Ref[Ticket]
    attends: bool

    def apply(self, tx: bb.Transaction) -> None:
        """Writes the ticket, in the transaction that marks the form."""
        ticket = tx.get(Ticket, self.ticket)
        if ticket is None:
            raise bb.Rejected("there is no such ticket", field="ticket")
        ticket.attendance = self.attends
