"""Sends a mail for each ride that ends: reads the rows of a view from a topic, and acts once for each.

    boiler-beam run --views examples.ride_sharing:RidePage --source ... --sink pubsub:projects/my-project/topics/rides
    gcloud pubsub subscriptions create mails --topic=rides

Messages may repeat, and an older one may arrive after a newer one. The row's stamp grows with every write of a row, and
a repeated message has the same stamp. The last handled stamp of each row is stored, here in SQLite.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (of Google's client, whose types are incomplete)

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

Send = Callable[[str, str], None]
"""Called with a row's path and a text."""


class Mails:
    """Sends one mail for each ride that ended, also if messages repeat or are late."""

    def __init__(self, path: str, send: Send) -> None:
        self.database, self.send = sqlite3.connect(path), send
        self.database.execute("CREATE TABLE IF NOT EXISTS done (path TEXT PRIMARY KEY, stamp TEXT)")

    def receive(self, data: bytes) -> None:
        """Handles one message.

        Acknowledge the message afterwards; after a crash in between the mail may be sent again.
        """
        row = json.loads(data)
        stamp = [row["generation"], row["version"], row["seq"]]
        with self.database:
            known = self.database.execute("SELECT stamp FROM done WHERE path = ?", [row["path"]]).fetchone()
            if known is not None and json.loads(known[0]) >= stamp:
                return
            fields: dict[str, Any] = row["fields"] or {}
            if fields.get("status") == "done":
                self.send(row["path"], f"Your ride is over: {fields['headline']}")
            self.database.execute("INSERT OR REPLACE INTO done VALUES (?, ?)", [row["path"], json.dumps(stamp)])

    def close(self) -> None:
        """Closes the database."""
        self.database.close()


def main(subscription: str) -> None:
    """Follows a subscription; needs `google-cloud-pubsub`."""
    import google.cloud.pubsub_v1 as pubsub_v1

    mails = Mails("mails.db", lambda path, text: print(f"{path}: {text}"))
    with pubsub_v1.SubscriberClient() as subscriber:
        while True:
            pulled = subscriber.pull(subscription=subscription, max_messages=100)
            for one in pulled.received_messages:
                mails.receive(one.message.data)
                subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id])
