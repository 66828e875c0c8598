"""The benchmark's two views in boiler_beam: a meeting with its attendees, and an organization's counts.

python -m pipelines.main --views benchmarks.views --source file:SNAPSHOT_FOLDER --sink jsonl:rows.jsonl
"""

from __future__ import annotations

from typing import Literal

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, root, view_property


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
    hearing_aid_requested: bool


class Ticket(bb.DomainModel, collection="tickets"):
    """A user's ticket for one meeting."""

    user: Ref[User]
    attendance: bool
    role: str


class Meeting(bb.DomainModel, collection="meetings"):
    """A meeting; its tickets are keyed by user id."""

    location: Ref[Location]
    users: list[Ref[User]]
    tickets: dict[str, Ref[Ticket]]
    status: Literal["not-started", "in-session", "closed"]


class Attendee(bb.Struct):
    """A user as a meeting's row shows them."""

    name: str
    organization: str
    hearing_aid_requested: bool


class MeetingSession(bb.ViewModel, collection="meeting_sessions"):
    """A meeting: where it is, and who attends."""

    class Store(bb.Store):
        """One row for each meeting that has a location."""

        meeting: Meeting = root(Meeting)
        location: Location = reference("meeting.location")
        users: dict[str, User] = reference("meeting.users")
        tickets: dict[str, Ticket] = reference("meeting.tickets")

    store: Store

    @view_property
    def latitude(self) -> float:
        """The location's latitude in degrees."""
        return self.store.location.latitude

    @view_property
    def longitude(self) -> float:
        """The location's longitude in degrees."""
        return self.store.location.longitude

    @view_property
    def address(self) -> str:
        """The location's address."""
        return self.store.location.address

    @view_property
    def in_session(self) -> bool:
        """Whether it goes on now."""
        return self.store.meeting.status == "in-session"

    @view_property
    def attending(self) -> list[Attendee]:
        """The users whose ticket says that they attend, by user id; nobody before the meeting starts."""
        if self.store.meeting.status == "not-started":
            return []
        tickets = self.store.tickets
        return [
            Attendee(f"{user.first_name} {user.last_name}", user.organization, user.hearing_aid_requested)
            for user_id, user in sorted(self.store.users.items())
            if user_id in tickets and tickets[user_id].attendance
        ]

    @view_property
    def num_hearing_aid_requested(self) -> int:
        """How many of those who attend asked for a hearing aid."""
        return sum(attendee.hearing_aid_requested for attendee in self.attending)


class OrganizationSummary(bb.ViewModel, collection="organization_summaries"):
    """An organization's counts."""

    class Store(bb.Store):
        """One row for each organization that has a user."""

        users: dict[str, User] = group(User, by="organization")
        tickets: dict[str, Ticket] = referrers(Ticket, by="user", of="users")

    store: Store

    num_users = aggregate.count("users")
    num_attending = aggregate.count("tickets", where=lambda ticket: ticket.attendance)
    num_hearing_aid = aggregate.count("users", where=lambda user: user.hearing_aid_requested)
