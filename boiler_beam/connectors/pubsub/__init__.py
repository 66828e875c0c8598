"""Pub/Sub: a source that acknowledges durable changes, a sink of rows, and the message formats (`envelope`)."""
