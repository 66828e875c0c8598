"""A mail for each ride that ends: rows of a view as messages of a topic, each acted upon once.

    boiler-beam run --views examples.ride_sharing:RidePage --source ... --sink pubsub:projects/my-project/topics/rides
    gcloud pubsub subscriptions create mails --topic=rides

A message may come twice, and an older one after a newer one. The row's stamp tells: it rises with every write of a row,
and a message that comes again has the same. What was done last for each row is kept where the deed is, here in SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable

Send = Callable[[str, str], None]
"""Takes a row's path and a text."""


class Mails:
    """Sends one mail for each ride that ended, whatever comes twice or late."""

    def __init__(self, path: str, send: Send) -> None:
        self.database, self.send = sqlite3.connect(path), send
        self.database.execute("CREATE TABLE IF NOT EXISTS done (path TEXT PRIMARY KEY, stamp TEXT)")

    def receive(self, data: bytes) -> None:
        """Takes one message; acknowledge it when this is back. A crash in between sends the mail again, or not yet."""
        row = json.loads(data)
        stamp = [row["generation"], row["version"], row["seq"]]
        with self.database:
            known = self.database.execute("SELECT stamp FROM done WHERE path = ?", [row["path"]]).fetchone()
            if known is not None and json.loads(known[0]) >= stamp:
                return
            fields = row["fields"] or {}
            if fields.get("status") == "done":
                self.send(row["path"], f"Your ride is over: {fields['headline']}")
            self.database.execute("INSERT OR REPLACE INTO done VALUES (?, ?)", [row["path"], json.dumps(stamp)])

    def close(self) -> None:
        """Ends it."""
        self.database.close()


def main(subscription: str) -> None:
    """Follows a subscription: needs `google-cloud-pubsub`."""
    from google.cloud import pubsub_v1

    mails = Mails("mails.db", lambda path, text: print(f"{path}: {text}"))
    with pubsub_v1.SubscriberClient() as subscriber:
        while True:
            pulled = subscriber.pull(subscription=subscription, max_messages=100)
            for one in pulled.received_messages:
                mails.receive(one.message.data)
                subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id])
