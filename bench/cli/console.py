"""What commands say to a person on stderr, and ask one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from bench.errors import UsageError
from bench.untrusted.text import printable


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """For what is printed on stdout beside something that counts more: whoever reads it may have gone."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        deafen()


def deafen() -> None:
    """What is still to be printed on stdout goes nowhere; else the interpreter would stumble over it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str, on_stdout: bool = False) -> None:
    """Print a message, on stderr unless it is a result. Whatever is in it steers no terminal and no CI."""
    print(printable(message), file=sys.stdout if on_stdout else sys.stderr)


def warn(message: str) -> None:
    say(f"warning: {message}")


def agreed(command: str, what: str, about: str = "") -> bool:
    """Whether somebody says yes to the deletion of ``what``, told ``about`` it. UsageError if nobody is there."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{command} asks before it deletes, and stdin is no terminal; add --yes")
    print(printable(f"{about}delete {what}? [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was deleted", file=sys.stderr)
    return False
