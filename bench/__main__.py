"""``python -m bench``: the same as the ``bench`` command."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # The current folder, in which a user's launch.py or workloads/ would shadow ours.

from bench.cli import main

if __name__ == "__main__":
    main()
