"""Durations as people write them: ``90s``, ``30m``, ``1h30m``, or plain seconds."""

from __future__ import annotations

import re

ALLOWED = "a duration above 0, such as 90s, 30m or 1h30m"

_NUMBER = r"([0-9]{1,9}(?:\.[0-9]+)?)"
_PARTS = re.compile(rf"(?:([0-9]{{1,9}})h)?(?:([0-9]{{1,9}})m)?(?:{_NUMBER}s)?")


def seconds(text: str) -> float:
    """Return the seconds of a duration; ValueError if the text is not one, or not above 0."""
    parts = _PARTS.fullmatch(f"{text}s" if re.fullmatch(_NUMBER, text) else text)  # 1h30 is ambiguous.
    hours, minutes, rest = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
    if not (total := 3600 * hours + 60 * minutes + rest):
        raise ValueError("")
    return total


def words(seconds: float) -> str:
    """Return a duration as text: ``1h05m00s``, ``2m05s``, ``45s``, and with tenths below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m{rest:02}s"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
