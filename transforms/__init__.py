"""Beam transforms: thin wrappers that carry what `boiler_beam.steps` decides."""

from transforms.append import AppendRows, Outlet
from transforms.backfill import Backfill
from transforms.changes import ReadStream
from transforms.firestore import ReadFromFirestore
from transforms.messages import ReadMessages
from transforms.read import ReadChanges
from transforms.stateful import Behavior
from transforms.stream import FollowViews
from transforms.unbounded import FollowSources
from transforms.write import Destination, WriteRows

__all__ = ["AppendRows", "Backfill", "Behavior", "Destination", "FollowSources", "FollowViews", "Outlet", "ReadChanges"]
__all__ += ["ReadFromFirestore", "ReadMessages", "ReadStream", "WriteRows"]
