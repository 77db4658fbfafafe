"""Launches cases and records how each ended. Imports ``store`` and what is below it, and ``launch``; no statistics."""
