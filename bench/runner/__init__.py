"""Launches cases and records how each ended. Imports ``launch``, ``store`` and what is below it; no statistics."""
