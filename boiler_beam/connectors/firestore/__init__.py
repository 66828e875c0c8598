"""Firestore: a source that is read or listened to, and a sink whose rows are guarded (S13 to S18)."""
