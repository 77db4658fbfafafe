"""Escapes untrusted text for files, terminals and the logs of CI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Characters that control a terminal, change the direction of text, are invisible or cannot be encoded: the control
# characters (C0, DEL, C1), Unicode's format characters except joiners, line and paragraph separators, surrogates, and
# two noncharacters.
UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]|\r(?!\n)"
)
# GitHub executes commands in lines that begin with ``::``, and ``##[`` anywhere in a line; Azure executes ``##vso[``,
# TeamCity ``##teamcity[``.
WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#[A-Za-z]*\[)", re.MULTILINE)


def escaped(text: str) -> str:
    r"""Escape a text for a cell of a file: unsafe characters become escapes such as ``\x00`` or ``\u202e``.

    Tabs and line ends (LF, CRLF) stay, as CSV can hold them. Escaping twice gives the same text.
    """
    return UNSAFE.sub(_escape, text)


def legible(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its texts ``escaped``, as a file will have them."""
    return {name: escaped(value) if isinstance(value, str) else value for name, value in row.items()}


def printable(text: str) -> str:
    """Escape a text for a terminal or a log of CI: as ``escaped``, and no line is a command for the CI system."""
    return WORKFLOW_COMMAND.sub(_begin, escaped(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _begin(found: re.Match[str]) -> str:
    return "\\x23" if found[0] == "#" else f"{found[1]}\\x3a"
