"""A view whose row changes without a document."""

from __future__ import annotations

from datetime import datetime, timezone

import boiler_beam as bb
from boiler_beam import root, view_property
from boiler_beam.samples.meeting import User


class Clock(bb.ViewModel, collection="clocks"):
    class Store(bb.Store):
        user: User = root(User)

    store: Store

    @view_property
    def now(self) -> datetime:
        return datetime.now(timezone.utc)
