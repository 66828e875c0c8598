"""Transforms for Apache Beam: rows of views in anyone's pipeline.

    changes = pipeline | ReadFromFirestore("my-project", MeetingSession)
    computed = changes | ComputeRows(MeetingSession)
    computed.rows | WriteToFirestore("my-project")

The same names are importable from the top-level package `transforms`.

| module | holds |
| --- | --- |
| `elements` | coders of the elements between transforms, and the results of transforms with several outputs |
| `compute_rows` | `ComputeRows`: rows from changes |
| `batch`, `packs` | its plan in a batch pipeline: a hash join |
| `stream`, `stateful` | its plan in a streaming pipeline: keyed steps over Beam's state |
| `read_firestore`, `read_pubsub`, `read_sources`, `unbounded` | reading changes of documents |
| `forms` | applying forms |
| `write_firestore`, `write`, `append`, `dead_letters` | writing rows to Firestore, a backfill or a stream to any sink |
"""

try:
    import apache_beam
except ModuleNotFoundError as error:
    if error.name != "apache_beam":
        raise
    from boiler_beam.install import install_command

    raise ImportError(
        f"transforms: expected Apache Beam to be installed, got none; fix: {install_command('beam')}", name=error.name
    ) from None

from boiler_beam.beam.append import AppendRows, Outlet
from boiler_beam.beam.compute_rows import ComputeRows
from boiler_beam.beam.elements import Changes, ComputedRows, WrittenRows
from boiler_beam.beam.forms import ApplyForms
from boiler_beam.beam.read_firestore import ReadFromFirestore
from boiler_beam.beam.read_pubsub import DecodeChanges, ReadChangesFromPubSub
from boiler_beam.beam.read_sources import ReadChanges
from boiler_beam.beam.unbounded import FollowSources
from boiler_beam.beam.write import Destination, WriteRows
from boiler_beam.beam.write_firestore import WriteToFirestore

__all__ = ["AppendRows", "ApplyForms", "Changes", "ComputeRows", "ComputedRows", "DecodeChanges", "Destination"]
__all__ += ["FollowSources", "Outlet", "ReadChanges", "ReadChangesFromPubSub", "ReadFromFirestore", "WriteRows"]
__all__ += ["WriteToFirestore", "WrittenRows"]

del apache_beam
