"""Computes the expected rows of the benchmark's two views, in the simplest way and without boiler_beam.

    python benchmarks/reference.py expected.jsonl DOCUMENT_FILE...

Documents are read in any order, and the newest version of each is used. The output has one row a line, `{"path",
"fields"}`. A meeting without location has no row; a member without user or ticket does not attend; an organization has
a row while it has a user.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Fields = dict[str, Any]


def read_documents(files: Iterable[Path]) -> dict[str, Fields]:
    """Returns the fields of every document that is not deleted, by path."""
    newest: dict[str, tuple[int, Fields | None]] = {}
    for file in files:
        with file.open() as lines:
            for line in lines:
                document = json.loads(line)
                path, version = document["path"], document["version"]
                if path not in newest or newest[path][0] <= version:
                    newest[path] = version, document["fields"]
    return {path: fields for path, (_, fields) in newest.items() if fields is not None}


def meeting_row(meeting: Fields, documents: dict[str, Fields]) -> Fields | None:
    """Returns one meeting's row, None without a location."""
    location = documents.get(meeting["location"])
    if location is None:
        return None
    attending = []
    for user_id in sorted(path.removeprefix("users/") for path in meeting["users"]):
        user = documents.get(f"users/{user_id}")
        ticket = documents.get(meeting["tickets"].get(user_id, ""))
        if user and ticket and ticket["attendance"] and meeting["status"] != "not-started":
            attending.append(
                {
                    "name": f"{user['firstName']} {user['lastName']}",
                    "organization": user["organization"],
                    "hearingAidRequested": user["hearingAidRequested"],
                }
            )
    return {
        "latitude": location["latitude"],
        "longitude": location["longitude"],
        "address": location["address"],
        "inSession": meeting["status"] == "in-session",
        "attending": attending,
        "numHearingAidRequested": sum(attendee["hearingAidRequested"] for attendee in attending),
    }


def organization_rows(documents: dict[str, Fields]) -> dict[str, Fields]:
    """Returns every organization's row, by path."""
    rows: dict[str, Fields] = {}
    for path, user in documents.items():
        if path.startswith("users/"):
            empty = {"numUsers": 0, "numAttending": 0, "numHearingAid": 0}
            row = rows.setdefault(f"organization_summaries/{user['organization']}", empty)
            row["numUsers"] += 1
            row["numHearingAid"] += user["hearingAidRequested"]
    for path, ticket in documents.items():
        if path.startswith("tickets/") and ticket["attendance"] and ticket["user"] in documents:
            rows[f"organization_summaries/{documents[ticket['user']]['organization']}"]["numAttending"] += 1
    return rows


def expected_rows(documents: dict[str, Fields]) -> dict[str, Fields]:
    """Returns all rows of both views, by path."""
    rows = organization_rows(documents)
    for path, meeting in documents.items():
        if path.startswith("meetings/"):
            row = meeting_row(meeting, documents)
            if row is not None:
                rows[f"meeting_sessions/{path.removeprefix('meetings/')}"] = row
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Computes the rows that the benchmark's views must have.")
    parser.add_argument("output", type=Path)
    parser.add_argument("documents", type=Path, nargs="+", help="document files")
    arguments = parser.parse_args()
    rows = expected_rows(read_documents(arguments.documents))
    with arguments.output.open("w") as file:
        file.writelines(json.dumps({"path": path, "fields": rows[path]}) + "\n" for path in sorted(rows))


if __name__ == "__main__":
    main()
