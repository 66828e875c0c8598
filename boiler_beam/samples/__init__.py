"""The meeting room: the views that `python -m pipelines.meeting` runs, and documents for them."""
