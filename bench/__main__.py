"""``python -m bench``: the same as the ``bench`` command."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the current folder, where a user's own launch.py or workloads/ would shadow ours

from bench.cli import main

if __name__ == "__main__":
    main()
