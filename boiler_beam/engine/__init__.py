"""The embedded engine: a plan run in one process."""

from boiler_beam.engine.backfill import Report, backfill

__all__ = ["Report", "backfill"]
