"""Measures two sides in turns, or the cases of a baseline again. Imports ``runner``, ``stats`` and below."""
