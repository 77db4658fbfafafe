"""What commands say to a person on stderr, and ask one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from bench.errors import UsageError
from bench.untrusted.text import printable


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Print what has less weight than the exit code: if the reader of stdout has gone, go on without it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def silence_stdout() -> None:
    """Send the rest of stdout to nowhere; else the interpreter reports a second error when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str, on_stdout: bool = False) -> None:
    """Print a message on stderr, or a result on stdout, with control characters escaped."""
    print(printable(message), file=sys.stdout if on_stdout else sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    say(f"warning: {message}")


def confirmed(command: str, what: str, about: str = "") -> bool:
    """Ask on the terminal whether ``what`` may be deleted, after ``about``; UsageError where stdin is no terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{command} asks before it deletes, and stdin is no terminal; add --yes")
    print(printable(f"{about}delete {what}? [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was deleted", file=sys.stderr)
    return False
