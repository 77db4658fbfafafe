"""What a person did or met, as opposed to a bug of ours. ``bench.cli`` makes messages and exit
codes of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK, EXIT_USAGE, EXIT_INCOMPARABLE, EXIT_FAILED, EXIT_BUG = 0, 2, 4, 5, 70


class BenchError(Exception):
    """A message that says what was given, what is allowed and what to do; and the exit code."""

    exit_code = EXIT_FAILED


class UsageError(BenchError):
    """The command, a suite file or a user's workload asks for something that cannot be."""

    exit_code = EXIT_USAGE


class IncomparableError(BenchError):
    """What is to be put together was not measured alike; the message says what differs."""

    exit_code = EXIT_INCOMPARABLE


class ResultsError(BenchError):
    """The results cannot be written or read."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. No Exception, so that nothing takes it for a fault on its way up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number
        self.exit_code = 128 + number


def near(given: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for a name that is close to an allowed one, else nothing."""
    matches = difflib.get_close_matches(given, list(allowed), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(m) for m in matches)}?" if matches else ""


def quoted(given: object) -> str:
    """What was given, as Python writes it."""
    try:
        return repr(given)
    except ValueError:  # Python writes no number of thousands of digits
        return f"a number of {given.bit_length():,} bits" if isinstance(given, int) else f"a {type(given).__name__}"


def shorten(text: str, limit: int = 300) -> str:
    """One line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
