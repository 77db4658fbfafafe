"""Runs inside a rank of ``bench comms``: collectives alone, timed and checked; nothing is trained."""
