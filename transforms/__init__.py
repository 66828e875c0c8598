"""Beam transforms: thin wrappers that carry what `boiler_beam.steps` decides."""

from transforms.backfill import Backfill
from transforms.read import ReadChanges
from transforms.write import Destination, WriteRows

__all__ = ["Backfill", "Destination", "ReadChanges", "WriteRows"]
