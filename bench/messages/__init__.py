"""Messages between ``bench run`` and its ranks: JSON files and shared memory. Imports ``plan``."""
