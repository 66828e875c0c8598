"""Cloud Storage; it needs Google's client library."""
