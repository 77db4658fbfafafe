"""What commands say to a person on stderr, and ask one."""

from __future__ import annotations

import sys

from bench.errors import UsageError


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def agreed(command: str, what: str, about: str = "") -> bool:
    """Whether somebody says yes to the deletion of ``what``, told ``about`` it. UsageError if nobody is there."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{command} asks before it deletes, and stdin is no terminal; add --yes")
    print(f"{about}delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was deleted", file=sys.stderr)
    return False
