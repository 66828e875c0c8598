"""What a good programmer writes by hand to serve the rows of one table: Starlette, one SELECT, msgspec.

    python benchmarks/peers/starlette_rest.py DATABASE PORT

The body is the one that boiler_beam answers, which the benchmark compares.
"""

from __future__ import annotations

import sqlite3
import sys

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

QUERY = 'SELECT generation, version, seq, fields FROM "Participation" WHERE path = ?'


def main() -> None:
    database = sqlite3.connect(f"file:{sys.argv[1]}?mode=rw", uri=True, check_same_thread=False)

    async def row(request: Request) -> Response:
        row_id = request.path_params["row_id"]
        path = f"participations/{row_id}"
        found = database.execute(QUERY, (path,)).fetchone()
        if found is None:
            return Response(status_code=404)
        generation, version, seq, fields = found
        body = {
            "view": "Participation",
            "path": path,
            "id": row_id,
            "stamp": {"generation": generation, "version": version, "seq": seq},
            "fields": msgspec.Raw(fields.encode()),
        }
        headers = {"ETag": f'"{generation}-{version}-{seq}"', "Cache-Control": "public, no-cache"}
        return Response(msgspec.json.encode(body), headers=headers, media_type="application/json")

    app = Starlette(routes=[Route("/views/Participation/{row_id}", row)])
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
