"""Pub/Sub: a source that acknowledges what is durable, a sink of rows, and the messages that travel through it."""
