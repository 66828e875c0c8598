"""The backfill in Pathway: static JSON lines, joins and reductions, JSON lines out.

    python benchmarks/peers/pathway_views.py SNAPSHOT_FOLDER OUTPUT_FOLDER

The output is Pathway's log: a line for each addition, with `diff` and `time`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pathway as pw

DOCUMENT = pw.schema_builder(
    {"path": pw.column_definition(dtype=str, primary_key=True), "fields": pw.column_definition(dtype=pw.Json)}
)


@pw.udf
def members(meeting: pw.Json) -> list[tuple[str, str]]:
    """Each member of a meeting: (user, ticket)."""
    fields: Any = meeting.value
    return [(user, fields["tickets"].get(user[6:], "")) for user in fields["users"]]


@pw.udf
def attendees(items: Any) -> pw.Json:
    """What the row shows of those who attend."""
    shown = [
        {"name": name, "organization": organization, "hearingAidRequested": aid}
        for _, name, organization, aid in items or ()
    ]
    return pw.Json(shown)


def read(snapshot: Path, name: str, **types: str) -> Any:
    """A collection as a table: its path, and the fields that `types` names."""
    table = pw.io.jsonlines.read(snapshot / f"{name}.jsonl", schema=DOCUMENT, mode="static")
    columns = {field: getattr(pw.this.fields[field], f"as_{kind}")(unwrap=True) for field, kind in types.items()}
    if name == "meetings":
        columns["members"] = members(pw.this.fields)
    return table.select(pw.this.path, **columns)


def meeting_rows(meetings: Any, locations: Any, users: Any, tickets: Any) -> Any:
    """A row for each meeting that has a location."""
    started = meetings.filter(pw.this.status != "not-started")
    member = started.select(meeting=pw.this.path, member=pw.this.members).flatten(pw.this.member)
    member = member.select(pw.this.meeting, user=pw.this.member[0], ticket=pw.this.member[1])
    there = member.join(tickets, member.ticket == tickets.path).select(member.meeting, member.user)
    there = there.join(users, there.user == users.path).select(
        there.meeting,
        item=pw.make_tuple(users.path, users.name, users.organization, users.hearingAidRequested),
        hearing_aid=pw.cast(int, users.hearingAidRequested),
    )
    attending = there.groupby(there.meeting).reduce(
        there.meeting, items=pw.reducers.sorted_tuple(there.item), hearing_aids=pw.reducers.sum(there.hearing_aid)
    )
    placed = meetings.join(locations, meetings.location == locations.path).select(
        meetings.path, meetings.status, locations.latitude, locations.longitude, locations.address
    )
    return placed.join_left(attending, placed.path == attending.meeting).select(
        path=placed.path.str.replace("meetings/", "meeting_sessions/"),
        latitude=placed.latitude,
        longitude=placed.longitude,
        address=placed.address,
        inSession=placed.status == "in-session",
        attending=attendees(attending["items"]),
        numHearingAidRequested=pw.coalesce(attending.hearing_aids, 0),
    )


def organization_rows(users: Any, tickets: Any) -> Any:
    """A row for each organization that has a user."""
    counts = users.groupby(users.organization).reduce(
        users.organization,
        users=pw.reducers.count(),
        hearing_aids=pw.reducers.sum(pw.cast(int, users.hearingAidRequested)),
    )
    there = tickets.join(users, tickets.user == users.path).select(users.organization)
    attending = there.groupby(there.organization).reduce(there.organization, tickets=pw.reducers.count())
    return counts.join_left(attending, counts.organization == attending.organization).select(
        path="organization_summaries/" + counts.organization,
        numUsers=counts.users,
        numAttending=pw.coalesce(attending.tickets, 0),
        numHearingAid=counts.hearing_aids,
    )


def main(snapshot: Path, output: Path) -> None:
    """Builds the graph and runs it."""
    users = read(snapshot, "users", firstName="str", lastName="str", organization="str", hearingAidRequested="bool")
    users = users.select(
        pw.this.path, pw.this.organization, pw.this.hearingAidRequested, name=pw.this.firstName + " " + pw.this.lastName
    )
    locations = read(snapshot, "locations", latitude="float", longitude="float", address="str")
    tickets = read(snapshot, "tickets", user="str", attendance="bool").filter(pw.this.attendance)
    meetings = read(snapshot, "meetings", location="str", status="str")
    pw.io.jsonlines.write(meeting_rows(meetings, locations, users, tickets), output / "meeting_sessions.jsonl")
    pw.io.jsonlines.write(organization_rows(users, tickets), output / "organization_summaries.jsonl")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
