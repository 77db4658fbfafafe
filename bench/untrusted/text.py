"""Text of which nobody knows what is in it, made harmless: for files, and for terminals and the logs of CI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What steers a terminal, turns the direction of text, cannot be seen or is in no encoding: the control characters (C0,
# DEL, C1) and the format characters of Unicode but for those that join letters, line and paragraph separators, halves
# of surrogate pairs, and two that are no characters.
UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]|\r(?!\n)"
)
# GitHub obeys a line that begins with ``::`` and ``##[`` anywhere in one; Azure ``##vso[``, TeamCity ``##teamcity[``.
WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#[A-Za-z]*\[)", re.MULTILINE)


def escaped(text: str) -> str:
    """Text for a cell of a file: control characters and the like as Python writes them, ``\\x00`` or ``\\u202e``.

    Tabs and line ends (LF, CRLF) stay, as CSV can hold them. Escaped once more it is the same.
    """
    return UNSAFE.sub(_escape, text)


def legible(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a file will hold it: its texts ``escaped``."""
    return {name: escaped(value) if isinstance(value, str) else value for name, value in row.items()}


def printable(text: str) -> str:
    """Text for a terminal or a log of CI: ``escaped``, and no line of it is a command to the CI that reads it."""
    return WORKFLOW_COMMAND.sub(_begin, escaped(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _begin(found: re.Match[str]) -> str:
    return "\\x23" if found[0] == "#" else f"{found[1]}\\x3a"
