"""Runs and comparisons for Python programs: ``import bench``. The commands parse options and print around it.

Imports all of ``bench`` except ``cli``, each part when it is needed.
"""
