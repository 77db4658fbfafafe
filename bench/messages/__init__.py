"""What ``bench run`` and its ranks tell each other: JSON files in a launch's folder, and shared memory. Imports
``plan``."""
