"""This machine: its GPUs, limits, software and load. Imports nothing of ``bench`` except ``errors``."""
