"""A run's folder: its columns, writing and reading it, and which launches are alike. Imports ``messages`` and below."""
