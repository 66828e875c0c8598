"""The meeting room: meetings with a location, users and tickets, and three views of them."""

from __future__ import annotations

from typing import Literal

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, root, view_property

__all__ = ["Location", "Meeting", "MeetingSession", "OrganizationSummary", "Ticket", "User", "UserMeetings"]


class Location(bb.DomainModel, collection="locations"):
    """Where a meeting is held."""

    latitude: float
    longitude: float
    address: str


class User(bb.DomainModel, collection="users"):
    """A person."""

    first_name: str
    last_name: str
    organization: str
    hearing_aid_requested: bool = False

    @property
    def display_name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"


class Ticket(bb.DomainModel, collection="tickets"):
    """A user's ticket for one meeting."""

    user: Ref[User]
    role: str
    attendance: bool


class Meeting(bb.DomainModel, collection="meetings"):
    """A meeting: `tickets` are keyed by user id."""

    location: Ref[Location]
    users: list[Ref[User]]
    tickets: dict[str, Ref[Ticket]]
    status: Literal["not-started", "in-session", "closed"]


class Attendee(bb.Struct, case="snake"):
    """A user in a meeting's row."""

    name: str
    organization: str
    hearing_aid_requested: bool


class MeetingSession(bb.ViewModel, collection="meeting_sessions"):
    """A meeting's screen: where it is, and who attends."""

    class Store(bb.Store):
        """One row for each meeting that has a location."""

        meeting: Meeting = root(Meeting)
        location: Location = reference("meeting.location")
        users: dict[str, User] = reference("meeting.users")
        tickets: dict[str, Ticket] = reference("meeting.tickets")

    store: Store

    @view_property
    def in_session(self) -> bool:
        """Whether the meeting takes place now."""
        return self.store.meeting.status == "in-session"

    @in_session.setter
    def in_session(self, value: bool) -> None:
        self.store.meeting.status = "in-session" if value else "closed"

    @view_property
    def latitude(self) -> float:
        """The latitude in degrees."""
        return self.store.location.latitude

    @view_property
    def longitude(self) -> float:
        """The longitude in degrees."""
        return self.store.location.longitude

    @view_property
    def address(self) -> str:
        """The location's address."""
        return self.store.location.address

    @view_property
    def attending(self) -> list[Attendee]:
        """The users whose ticket says that they attend, by user id; nobody before the meeting starts."""
        if self.store.meeting.status == "not-started":
            return []
        tickets = self.store.tickets
        return [
            Attendee(user.display_name, user.organization, user.hearing_aid_requested)
            for user_id, user in sorted(self.store.users.items())
            if user_id in tickets and tickets[user_id].attendance
        ]

    @view_property
    def num_hearing_aid_requested(self) -> int:
        """How many of them asked for a hearing aid."""
        return sum(attendee.hearing_aid_requested for attendee in self.attending)


class UserMeetings(bb.ViewModel, collection="user_meetings"):
    """The meetings that a user is in."""

    class Store(bb.Store):
        """One row for each user. Meetings refer to their users, so the edge `meetings` is of the kind `referrers`."""

        user: User = root(User)
        meetings: dict[str, Meeting] = referrers(Meeting, by="users")
        members: dict[str, User] = reference("meetings.users")
        tickets: dict[str, Ticket] = reference("meetings.tickets")
        locations: dict[str, Location] = reference("meetings.location")

    store: Store

    @view_property
    def name(self) -> str:
        """The user's display name."""
        return self.store.user.display_name

    @view_property
    def meetings(self) -> list[dict[str, object]]:
        """Each meeting, by id: where it is, who is in it, and whether this user attends."""
        user_id = self.store.user.doc_id
        found: list[dict[str, object]] = []
        for meeting_id, meeting in sorted(self.store.meetings.items()):
            location = self.store[meeting.location]
            members = [member for ref in meeting.users if (member := self.store[ref]) is not None]
            ticket_ref = meeting.tickets.get(user_id)
            ticket = self.store[ticket_ref] if ticket_ref is not None else None
            found.append(
                {
                    "meeting": meeting_id,
                    "status": meeting.status,
                    "address": location.address if location is not None else None,
                    "members": sorted(member.display_name for member in members),
                    "role": ticket.role if ticket is not None else None,
                    "attends": ticket is not None and ticket.attendance,
                }
            )
        return found


class OrganizationSummary(bb.ViewModel, collection="organization_summaries"):
    """An organization's users in numbers."""

    class Store(bb.Store):
        """One row for each organization of a user; the tickets are those of its users."""

        users: dict[str, User] = group(User, by="organization")
        tickets: dict[str, Ticket] = referrers(Ticket, by="user", of="users")

    store: Store

    num_users = aggregate.count("users")
    num_attending = aggregate.count("tickets", where=lambda ticket: ticket.attendance)
    num_hearing_aid = aggregate.count("users", where=lambda user: user.hearing_aid_requested)
