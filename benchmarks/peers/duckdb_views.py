"""The backfill in DuckDB: one query a view over the document files.

python benchmarks/peers/duckdb_views.py SNAPSHOT_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

FIELDS = {
    "users": "STRUCT(firstName VARCHAR, lastName VARCHAR, organization VARCHAR, hearingAidRequested BOOLEAN)",
    "locations": "STRUCT(latitude DOUBLE, longitude DOUBLE, address VARCHAR)",
    "tickets": 'STRUCT("user" VARCHAR, attendance BOOLEAN)',
    "meetings": "STRUCT(location VARCHAR, users VARCHAR[], tickets MAP(VARCHAR, VARCHAR), status VARCHAR)",
}

MEETINGS = """
SELECT 'meeting_sessions/' || meetings.path[10:] AS path,
       locations.latitude, locations.longitude, locations.address,
       status = 'in-session' AS "inSession",
       coalesce(attending, []) AS attending,
       coalesce(hearing_aids, 0) AS "numHearingAidRequested"
FROM meetings
JOIN locations ON locations.path = meetings.location
LEFT JOIN (
    SELECT members.path,
           list({'name': "firstName" || ' ' || "lastName", 'organization': organization,
                 'hearingAidRequested': "hearingAidRequested"} ORDER BY users.path) AS attending,
           count(*) FILTER ("hearingAidRequested") AS hearing_aids
    FROM (SELECT path, tickets, unnest(users) AS member FROM meetings WHERE status != 'not-started') AS members
    JOIN users ON users.path = member
    JOIN tickets ON tickets.path = members.tickets[member[7:]] AND attendance
    GROUP BY members.path
) AS attendees ON attendees.path = meetings.path
"""

ORGANIZATIONS = """
SELECT 'organization_summaries/' || organization AS path,
       count(*) AS "numUsers",
       coalesce(sum(attending), 0)::BIGINT AS "numAttending",
       count(*) FILTER ("hearingAidRequested") AS "numHearingAid"
FROM users
LEFT JOIN (SELECT "user", count(*) AS attending FROM tickets WHERE attendance GROUP BY "user") AS attendance
       ON attendance."user" = users.path
GROUP BY organization
"""


def main(snapshot: Path, output: Path) -> None:
    """Reads the snapshot, writes both views."""
    connection = duckdb.connect()
    for name, fields in FIELDS.items():
        columns = f"{{path: 'VARCHAR', fields: '{fields}'}}"
        file = f"{snapshot}/{name}.jsonl"
        connection.execute(
            f"CREATE TABLE {name} AS SELECT path, unnest(fields) "
            f"FROM read_json('{file}', format='newline_delimited', columns={columns}) WHERE fields IS NOT NULL"
        )
    connection.execute(f"COPY ({MEETINGS}) TO '{output}/meeting_sessions.jsonl' (FORMAT json)")
    connection.execute(f"COPY ({ORGANIZATIONS}) TO '{output}/organization_summaries.jsonl' (FORMAT json)")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
