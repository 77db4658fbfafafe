"""Reads the small files by which the kernel tells of itself, in /sys and /proc. Any of them may be missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SYS, PROC = Path("/sys"), Path("/proc")


def text_of(file: Path) -> str | None:
    """Return the text of a file without blanks around it; None if it is empty or cannot be read."""
    try:
        return file.read_text(errors="replace").strip() or None
    except OSError:
        return None


def on_off(text: str | None) -> str | None:
    """Return ``off`` for 0, ``on`` for 1, and any other text as it is."""
    return {"0": "off", "1": "on"}.get(text or "", text)


def distinct(texts: Iterable[str | None]) -> str | None:
    """Return the distinct texts in their order, joined by ``, ``; None if all are None."""
    return ", ".join(sorted({text for text in texts if text})) or None
