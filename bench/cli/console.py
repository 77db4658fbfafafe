"""Messages of commands on stderr, and questions to the user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from bench.errors import UsageError
from bench.untrusted.text import printable


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Continue without stdout if its reader is gone, because the exit code is still important."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def silence_stdout() -> None:
    """Discard the rest of stdout; otherwise Python reports another error when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str, on_stdout: bool = False) -> None:
    """Print a message on stderr, or a result on stdout, with control characters escaped."""
    print(printable(message), file=sys.stdout if on_stdout else sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    say(f"warning: {message}")


def confirmed(command: str, what: str, about: str = "") -> bool:
    """Print ``about``, ask on the terminal whether to delete ``what``, and return the answer.

    Raise UsageError if stdin is not a terminal.
    """
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{command} asks before it deletes, but stdin is not a terminal", hint="Add --yes.")
    print(printable(f"{about}delete {what}? [y/N] "), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was deleted", file=sys.stderr)
    return False
