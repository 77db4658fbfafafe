"""Formats for other programs: one file for each. Imports ``report`` and the layers below it."""
