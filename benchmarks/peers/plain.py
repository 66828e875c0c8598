"""What a good programmer writes by hand for exactly these two views: dicts, one process, orjson.

python benchmarks/peers/plain.py SNAPSHOT_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

Documents = dict[str, dict[str, Any]]


def read(file: Path) -> Documents:
    """The newest version of every document of a file, by path."""
    versions: dict[str, int] = {}
    documents: Documents = {}
    loads = orjson.loads
    with file.open("rb") as lines:
        for line in lines:
            document = loads(line)
            path, version = document["path"], document["version"]
            if versions.get(path, -1) <= version:
                versions[path] = version
                documents[path] = document["fields"]
    return {path: fields for path, fields in documents.items() if fields is not None}


def write_meetings(meetings: Documents, locations: Documents, users: Documents, tickets: Documents, file: Path) -> None:
    """Writes a line for every meeting that has a location."""
    dumps = orjson.dumps
    with file.open("wb", 1 << 20) as output:
        for path, meeting in meetings.items():
            location = locations.get(meeting["location"])
            if location is None:
                continue
            attending, hearing_aids = [], 0
            if meeting["status"] != "not-started":
                held = meeting["tickets"]
                for user_path in sorted(meeting["users"]):
                    user, ticket = users.get(user_path), tickets.get(held.get(user_path[6:]))
                    if user is not None and ticket is not None and ticket["attendance"]:
                        hearing_aid = user["hearingAidRequested"]
                        hearing_aids += hearing_aid
                        attending.append(
                            {
                                "name": f"{user['firstName']} {user['lastName']}",
                                "organization": user["organization"],
                                "hearingAidRequested": hearing_aid,
                            }
                        )
            row = {
                "latitude": location["latitude"],
                "longitude": location["longitude"],
                "address": location["address"],
                "inSession": meeting["status"] == "in-session",
                "attending": attending,
                "numHearingAidRequested": hearing_aids,
            }
            output.write(
                dumps({"path": f"meeting_sessions/{path[9:]}", "fields": row}, option=orjson.OPT_APPEND_NEWLINE)
            )


def write_organizations(users: Documents, tickets: Documents, file: Path) -> None:
    """Writes a line for every organization that has a user."""
    members: Counter[str] = Counter()
    hearing_aids: Counter[str] = Counter()
    attending: Counter[str] = Counter()
    for user in users.values():
        members[user["organization"]] += 1
        hearing_aids[user["organization"]] += user["hearingAidRequested"]
    for ticket in tickets.values():
        if ticket["attendance"] and ticket["user"] in users:
            attending[users[ticket["user"]]["organization"]] += 1
    with file.open("wb") as output:
        for name, count in members.items():
            row = {"numUsers": count, "numAttending": attending[name], "numHearingAid": hearing_aids[name]}
            line = {"path": f"organization_summaries/{name}", "fields": row}
            output.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def main(snapshot: Path, output: Path) -> None:
    """Reads the snapshot, writes both views."""
    # Nothing here forms a cycle, and the collector would go through every document again and again.
    gc.disable()
    users, tickets = read(snapshot / "users.jsonl"), read(snapshot / "tickets.jsonl")
    locations, meetings = read(snapshot / "locations.jsonl"), read(snapshot / "meetings.jsonl")
    write_meetings(meetings, locations, users, tickets, output / "meeting_sessions.jsonl")
    write_organizations(users, tickets, output / "organization_summaries.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
