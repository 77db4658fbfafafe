"""Runs inside a rank: build, warm up, measure, record. Imports torch, ``strategies``, ``messages`` and ``plan``."""
