"""Measures two sides in turns, or a baseline's cases anew. Imports ``runner``, ``stats`` and what is below them."""
