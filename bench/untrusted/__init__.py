"""Reads and writes texts and files that cannot be trusted. Imports only ``errors``."""
