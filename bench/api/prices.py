"""The prices of two sides: dollars for an hour of a device."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from bench.errors import UsageError, did_you_mean

ALLOWED = "a price above 0 in dollars per device and hour for each side, such as A=2.5,B=4"


def prices(given: str | Mapping[str, Any] | None, names: tuple[str, str]) -> tuple[float, float] | None:
    """Return the prices of A and of B from ``A=2.5,B=4`` or a mapping; None if there are none.

    The sides are A and B, or their ``names``, of a path its last part. UsageError for anything but one price above 0
    for each.
    """
    if given is None:
        return None
    if not isinstance(given, (str, Mapping)):
        raise UsageError(option="--price", given=given, allowed=ALLOWED)
    pairs = [_pair(text) for text in given.split(",")] if isinstance(given, str) else list(given.items())
    found: dict[str, float] = {}
    for side, price in pairs:
        place = _place(str(side), names)
        if place in found:
            raise UsageError(f"--price: {place} has two prices", option="--price", given=given, hint="Give one a side.")
        found[place] = _price(price)
    if lacking := [side for side in "AB" if side not in found]:
        raise UsageError(
            f"--price: {' and '.join(lacking)} has no price", option="--price", given=given, hint=f"Give {ALLOWED}."
        )
    return found["A"], found["B"]


def _pair(text: str) -> tuple[str, str]:
    side, equals, price = text.rpartition("=")  # A path may hold the sign.
    if not equals:
        raise UsageError(option="--price", given=text, allowed=ALLOWED)
    return side.strip(), price.strip()


def _place(side: str, names: tuple[str, str]) -> str:
    """Return A or B."""
    known = {"A": {"A"}, "B": {"B"}}
    for place, name in zip("AB", names, strict=True):
        known[place] |= {name, os.path.basename(os.path.normpath(name))}
    places = [place for place, words in known.items() if side in words]
    if len(places) != 1:
        words = ["A", "B", *names]
        raise UsageError(option="--price", given=side, allowed=ALLOWED, hint=did_you_mean(side, words))
    return places[0]


def _price(given: Any) -> float:
    try:
        price = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        price = math.nan
    if not 0 < price < math.inf:
        raise UsageError(option="--price", given=given, allowed=ALLOWED)
    return price
