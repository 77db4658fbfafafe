"""One file a format that other tools read: pure functions that give text."""
