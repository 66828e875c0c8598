"""The backfill in Apache Beam as its documentation teaches it: text in, `CoGroupByKey` for every join, text out.

python benchmarks/peers/beam_naive.py SNAPSHOT_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

Fields = dict[str, Any]
Document = tuple[str, Fields]
Grouped = tuple[str, dict[str, Iterable[Any]]]
Counts = tuple[int, int, int]


def parse(line: str) -> Document:
    """A line of a document file."""
    document = json.loads(line)
    return document["path"], document["fields"]


def members(document: Document) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each member of a meeting: (ticket, (meeting, user))."""
    path, meeting = document
    for user in meeting["users"]:
        ticket = meeting["tickets"].get(user.removeprefix("users/"))
        if ticket:
            yield ticket, (path, user)


def join_ticket(grouped: Grouped) -> Iterator[tuple[str, str]]:
    """Each member who attends: (user, meeting)."""
    for ticket in grouped[1]["tickets"]:
        if ticket["attendance"]:
            for meeting, user in grouped[1]["members"]:
                yield user, meeting


def join_user(grouped: Grouped) -> Iterator[tuple[str, tuple[str, Fields]]]:
    """Each attendee with what the row shows: (meeting, (user, fields))."""
    path, groups = grouped
    for user in groups["users"]:
        attendee = {
            "name": f"{user['firstName']} {user['lastName']}",
            "organization": user["organization"],
            "hearingAidRequested": user["hearingAidRequested"],
        }
        for meeting in groups["meetings"]:
            yield meeting, (path, attendee)


def by_location(document: Document) -> tuple[str, Document]:
    """A meeting under its location's path."""
    return document[1]["location"], document


def join_location(grouped: Grouped) -> Iterator[tuple[str, tuple[str, Fields]]]:
    """Each meeting that has a location: (meeting, (status, location))."""
    for location in grouped[1]["locations"]:
        for path, meeting in grouped[1]["meetings"]:
            yield path, (meeting["status"], location)


def meeting_line(grouped: Grouped) -> Iterator[str]:
    """A meeting's row."""
    path, groups = grouped
    for status, location in groups["meetings"]:
        attendees = [] if status == "not-started" else sorted(groups["attendees"], key=lambda attendee: attendee[0])
        row = {
            "latitude": location["latitude"],
            "longitude": location["longitude"],
            "address": location["address"],
            "inSession": status == "in-session",
            "attending": [attendee for _, attendee in attendees],
            "numHearingAidRequested": sum(attendee["hearingAidRequested"] for _, attendee in attendees),
        }
        yield json.dumps({"path": f"meeting_sessions/{path.removeprefix('meetings/')}", "fields": row})


def by_user(document: Document) -> tuple[str, int]:
    """Whether a ticket attends, under its user's path."""
    return document[1]["user"], int(document[1]["attendance"])


def user_counts(grouped: Grouped) -> Iterator[tuple[str, Counts]]:
    """What a user adds to the organization."""
    for user in grouped[1]["users"]:
        yield user["organization"], (1, sum(grouped[1]["attending"]), int(user["hearingAidRequested"]))


def add(counts: Iterable[Counts]) -> Counts:
    """The sums of three counts."""
    users = attending = hearing_aids = 0
    for count in counts:
        users += count[0]
        attending += count[1]
        hearing_aids += count[2]
    return users, attending, hearing_aids


def organization_line(counted: tuple[str, Counts]) -> str:
    """An organization's row."""
    name, (users, attending, hearing_aids) = counted
    row = {"numUsers": users, "numAttending": attending, "numHearingAid": hearing_aids}
    return json.dumps({"path": f"organization_summaries/{name}", "fields": row})


def write(file: Path) -> beam.PTransform[Any, Any]:
    """One text file of that name."""
    return beam.io.WriteToText(str(file), num_shards=1, shard_name_template="")


def main(snapshot: Path, output: Path) -> None:
    """Runs the pipeline."""
    # "DirectRunner" would first try to download another runner, and use this one where it can't.
    options = PipelineOptions(flags=[], runner="FnApiRunner")
    with beam.Pipeline(options=options) as pipeline:
        users, locations, tickets, meetings = (
            pipeline
            | f"Read {name}" >> beam.io.ReadFromText(str(snapshot / f"{name}.jsonl"))
            | f"Parse {name}" >> beam.Map(parse)
            for name in ("users", "locations", "tickets", "meetings")
        )
        tickets_of_members = {"members": meetings | beam.FlatMap(members), "tickets": tickets}
        attending = tickets_of_members | "Group tickets" >> beam.CoGroupByKey() | beam.FlatMap(join_ticket)
        users_of_meetings = {"users": users, "meetings": attending}
        attendees = users_of_meetings | "Group users" >> beam.CoGroupByKey() | beam.FlatMap(join_user)
        located = {"meetings": meetings | beam.Map(by_location), "locations": locations}
        placed = located | "Group locations" >> beam.CoGroupByKey() | beam.FlatMap(join_location)
        rows = {"meetings": placed, "attendees": attendees} | "Group meetings" >> beam.CoGroupByKey()
        rows | beam.FlatMap(meeting_line) | "Write meetings" >> write(output / "meeting_sessions.jsonl")

        counted = {"users": users, "attending": tickets | beam.Map(by_user)}
        counts = (
            counted | "Group attendance" >> beam.CoGroupByKey() | beam.FlatMap(user_counts) | beam.CombinePerKey(add)
        )
        counts | beam.Map(organization_line) | "Write organizations" >> write(output / "organization_summaries.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
