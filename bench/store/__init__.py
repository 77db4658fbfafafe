"""A run's folder: its columns, how it is written and read, and which launches in it are alike. Imports ``messages``,
``plan`` and ``machine``."""
