"""The views of the live page (`make demo`): meetings with participants, and tickets whose attendance is set."""

from __future__ import annotations

import boiler_beam as bb
from boiler_beam import reference, root, view_property
from boiler_beam.samples.meeting import Location, Meeting, OrganizationSummary, Ticket, User

__all__ = ["MeetingRoom", "OrganizationSummary", "Participation"]


class Participant(bb.Struct):
    """A user in a meeting, with the id of their ticket."""

    ticket: str
    name: str
    organization: str
    attends: bool
    hearing_aid_requested: bool


class MeetingRoom(bb.ViewModel, collection="meeting_rooms"):
    """A meeting: where it is, who is invited, and who attends."""

    class Store(bb.Store):
        """One row for each meeting that has a location."""

        meeting: Meeting = root(Meeting)
        location: Location = reference("meeting.location")
        users: dict[str, User] = reference("meeting.users")
        tickets: dict[str, Ticket] = reference("meeting.tickets")

    store: Store

    @view_property
    def address(self) -> str:
        """The location's address."""
        return self.store.location.address

    @view_property
    def status(self) -> str:
        """`not-started`, `in-session` or `closed`."""
        return self.store.meeting.status

    @view_property
    def participants(self) -> list[Participant]:
        """The users with a ticket, by name."""
        tickets = self.store.tickets
        found = [
            Participant(
                tickets[user_id].doc_id,
                user.display_name,
                user.organization,
                tickets[user_id].attendance,
                user.hearing_aid_requested,
            )
            for user_id, user in self.store.users.items()
            if user_id in tickets
        ]
        return sorted(found, key=lambda one: (one.name, one.ticket))

    @view_property
    def num_attending(self) -> int:
        """How many attend."""
        return sum(one.attends for one in self.participants)

    @view_property
    def num_hearing_aids(self) -> int:
        """How many of them asked for a hearing aid."""
        return sum(one.attends and one.hearing_aid_requested for one in self.participants)


class Participation(bb.ViewModel, collection="participations"):
    """A user's ticket, whose attendance can be set."""

    class Store(bb.Store):
        """One row for each ticket of a user."""

        ticket: Ticket = root(Ticket)
        user: User = reference("ticket.user")

    store: Store

    @view_property
    def name(self) -> str:
        """The user's name."""
        return self.store.user.display_name

    @view_property
    def attends(self) -> bool:
        """Whether the user attends."""
        return self.store.ticket.attendance

    @attends.setter
    def attends(self, value: bool) -> None:
        self.store.ticket.attendance = value

    @view_property
    def hearing_aid_requested(self) -> bool:
        """Whether the user asks for a hearing aid, in all meetings."""
        return self.store.user.hearing_aid_requested

    @hearing_aid_requested.setter
    def hearing_aid_requested(self, value: bool) -> None:
        self.store.user.hearing_aid_requested = value
