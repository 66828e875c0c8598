"""Serves rows of views: REST, live streams, WebSocket, GraphQL and JSON-RPC, with one rule of access.

    app = boiler_beam.serving.asgi_app([MeetingSession], rows="sqlite:rows.db")

| module | |
| --- | --- |
| `reader`, `hub`, `core` | rows and what changed in them; the hub; all that can be asked |
| `rows`, `listened`, `mirror` | where the rows are: in a file, or in Firestore, of which files are kept equal |
| `access`, `auth`, `roles` | who may see and do what; who has a token; who has which role |
| `limits` | how much clients may ask for |
| `writer` | what a package that writes has to implement |
| `rest`, `streams`, `websocket`, `rpc`, `graphql`, `socketio` | a protocol each |
| `app` | the ASGI application |
| `run` | `asgi_app` and `running` |
"""

from boiler_beam.serving.access import Access, User, Verifier, signed_in
from boiler_beam.serving.limits import ClientLimits
from boiler_beam.serving.problems import Problem
from boiler_beam.serving.roles import Memberships, Roles
from boiler_beam.serving.run import asgi_app, running
from boiler_beam.serving.writer import Writer

__all__ = [
    "Access",
    "ClientLimits",
    "Memberships",
    "Problem",
    "Roles",
    "User",
    "Verifier",
    "Writer",
    "asgi_app",
    "running",
    "signed_in",
]
