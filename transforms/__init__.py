"""Beam transforms: thin wrappers that carry what `boiler_beam.steps` decides."""

from transforms.append import AppendRows, Outlet
from transforms.backfill import Backfill
from transforms.changes import ReadStream
from transforms.firestore import WriteToFirestore
from transforms.read import ReadChanges
from transforms.stateful import Behavior
from transforms.stream import FollowViews
from transforms.write import Destination, WriteRows

__all__ = ["AppendRows", "Backfill", "Behavior", "Destination", "FollowViews", "Outlet", "ReadChanges", "ReadStream"]
__all__ += ["WriteRows", "WriteToFirestore"]
