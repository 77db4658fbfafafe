"""Saves and loads the state of a training after its window, for ``--save-checkpoint``."""
