"""Beam transforms: thin wrappers that carry what `boiler_beam.steps` decides."""

from transforms.append import AppendRows, Outlet
from transforms.backfill import Backfill
from transforms.changes import ReadStream
from transforms.messages import ReadMessages
from transforms.read import ReadChanges
from transforms.read_firestore import ReadFromFirestore
from transforms.stateful import Behavior
from transforms.stream import FollowViews
from transforms.unbounded import FollowSources
from transforms.write import Destination, WriteRows
from transforms.write_firestore import WriteToFirestore

__all__ = ["AppendRows", "Backfill", "Behavior", "Destination", "FollowSources", "FollowViews", "Outlet", "ReadChanges"]
__all__ += ["ReadFromFirestore", "ReadMessages", "ReadStream", "WriteRows", "WriteToFirestore"]
