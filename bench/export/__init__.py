"""What other programs read: one file a format, pure functions that give text. Imports ``report`` and
what is below it."""
