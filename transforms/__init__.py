"""Beam transforms: thin wrappers around `boiler_beam.steps`.

| module | holds |
| --- | --- |
| `backfill`, `read`, `packs`, `write` | the batch pipeline, from sources to a sink |
| `stream`, `stateful` | the streaming pipeline with its keyed stages |
| `changes`, `read_pubsub`, `unbounded` | reading changes for a stream, from bounded sources, Pub/Sub, other sources |
| `append`, `write_firestore`, `dead_letters` | writing the rows and dead letters of a stream |
| `read_firestore` | reading Firestore in your own pipeline |
| `forms` | applying forms in your own pipeline |
"""

from transforms.append import AppendRows, Outlet
from transforms.backfill import Backfill
from transforms.changes import ReadStream
from transforms.forms import ApplyForms
from transforms.read import ReadChanges
from transforms.read_firestore import ReadFromFirestore
from transforms.read_pubsub import ReadMessages
from transforms.stateful import Behavior
from transforms.stream import FollowViews
from transforms.unbounded import FollowSources
from transforms.write import Destination, WriteRows
from transforms.write_firestore import WriteToFirestore

__all__ = ["AppendRows", "ApplyForms", "Backfill", "Behavior", "Destination", "FollowSources", "FollowViews", "Outlet"]
__all__ += ["ReadChanges", "ReadFromFirestore", "ReadMessages", "ReadStream", "WriteRows", "WriteToFirestore"]
