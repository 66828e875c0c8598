"""The source `firestore:PROJECT[/DATABASE]`: reads documents as of one time; `following` listens to them from then on.

It needs `boiler_beam[firestore]`. It reads the collections of the views.
"""

from __future__ import annotations

from boiler_beam.connectors.firestore.listen import ListenSource
from boiler_beam.connectors.firestore.snapshot import SnapshotSource

__all__ = ["FirestoreSource"]


class FirestoreSource(SnapshotSource):
    """Reads collections, and knows the source that listens to them."""

    def following(self) -> ListenSource:
        """Returns the source that listens to the same documents."""
        source = ListenSource(self.rest)
        source.collections = self.collections
        return source
