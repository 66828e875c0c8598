"""Helpers of several tests: executors, random histories, emulators, faulty servers."""
