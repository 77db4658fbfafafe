"""Runs and comparisons for Python programs: ``import bench``. The commands are parsing and printing around it. Imports
all of ``bench`` but ``cli``, each part when it is needed."""
