"""The margins of a gate as shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.stats.verdict import Rules


MARGINS = ("detect", "floor", "floor_memory", "strict")


def share(flag: str, given: str | float) -> float:
    """Return 0.03 for ``3%`` or ``0.03``; UsageError for anything but a share above 0 and below 1."""
    text = str(given)
    try:
        value = float(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageError(option=flag, given=given, allowed="a share above 0 and below 100%, such as 3%")
    return value


def rules(
    detect: str | float | None = None,
    floor: str | float | None = None,
    floor_memory: str | float | None = None,
    strict: bool | None = None,
) -> Rules:
    """Return the rules of a gate; UsageError if ``detect`` is not above ``floor``."""
    from bench.stats.verdict import Rules

    found = Rules(
        floor=share("--floor", "1%" if floor is None else floor),
        floor_memory=share("--floor-memory", "2%" if floor_memory is None else floor_memory),
        detect=share("--detect", "3%" if detect is None else detect),
        strict=bool(strict),
    )
    if found.detect <= found.floor:
        raise UsageError(
            option="--detect",
            given="3%" if detect is None else detect,
            allowed=f"a share above --floor, which is {found.floor:.2%}",
            hint="Give a larger --detect, or a smaller --floor.",
        )
    return found
