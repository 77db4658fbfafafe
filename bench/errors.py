"""Errors that a user can act on, as opposed to bugs in stepbench. ``bench.cli`` prints them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Self

EXIT_OK, EXIT_USAGE, EXIT_INCOMPARABLE, EXIT_FAILED, EXIT_BUG = 0, 2, 4, 5, 70


class BenchError(Exception):
    """An error that a user can act on.

    Its text is ``{option}: got {given}; allowed: {allowed}. {hint}``. A ``message`` replaces the part before the hint.
    All are attributes; those that are not given are None:

    ``option``: where the value was given, such as ``--gpus``, ``gpus`` or ``suite.toml: matrix[0].gpus``.
    ``given``: the value itself.
    ``allowed``: the allowed values, in words.
    ``hint``: what to do next, as a sentence.
    ``message``: the text without the hint.
    """

    exit_code = EXIT_FAILED

    def __init__(
        self,
        message: str = "",
        *,
        option: str | None = None,
        given: object = None,
        allowed: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = f"{option}: " if option else ""
        self.message = message or f"{place}got {quoted(given)}; allowed: {allowed}."
        self.option, self.given, self.allowed, self.hint = option, given, allowed, hint or None
        super().__init__(f"{self.message.rstrip('.')}. {hint}" if hint else self.message)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields as keyword arguments for another error: ``ResultsError(error.message, **error.fields)``."""
        return {"option": self.option, "given": self.given, "allowed": self.allowed, "hint": self.hint}

    def at(self, place: str) -> Self:
        """Return this error with ``place`` before its text and its option."""
        option = f"{place}: {self.option}" if self.option else place
        return type(self)(f"{place}: {self.message}", **{**self.fields, "option": option})


class UsageError(BenchError):
    """The command line, a suite file or a user's workload asks for something that is not possible."""

    exit_code = EXIT_USAGE


class MissingWorkloadError(UsageError):
    """A workload's file, module or class does not exist."""


class IncomparableError(BenchError):
    """The results to be combined or compared were not measured in the same way; the message says what differs."""

    exit_code = EXIT_INCOMPARABLE


class ResultsError(BenchError):
    """Results cannot be written or read."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. Not an Exception, so that no ``except Exception`` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number
        self.exit_code = 128 + number


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``Did you mean 'x'?`` for a name that is close to an allowed one, else an empty text."""
    matches = difflib.get_close_matches(given, list(allowed), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(m) for m in matches)}?" if matches else ""


def quoted(given: object, limit: int = 200) -> str:
    """Return a value as Python writes it, cut to ``limit`` characters."""
    try:
        text = repr(given)
    except ValueError:  # Python refuses to write an integer of more than 4,300 digits.
        return f"a number of {given.bit_length():,} bits" if isinstance(given, int) else f"a {type(given).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shorten(text: str, limit: int = 300) -> str:
    """Return a text as one line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
