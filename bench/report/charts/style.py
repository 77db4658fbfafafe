"""Colours of charts in both themes, and hatches, markers and dashes, which distinguish series without colour."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.plan.options import CHECKPOINTING, PRECISIONS

Colours = Mapping[str, str]

# Text has a contrast of at least 4.5 on ``paper``, other marks of at least 3, except ``grid`` and ``faint``, which are
# decoration. Any two series are at least 24 apart in CIE L*a*b*, for normal vision, protanopia and deuteranopia.
THEMES: Mapping[str, Colours] = {
    "light": {
        **{"paper": "#ffffff", "ink": "#1b1f24", "muted": "#59636e", "grid": "#d8dee4", "faint": "#8b949e"},
        **{"bad": "#b3261e", "idle": "#7a5200"},
        **{"series-1": "#2286d2", "series-2": "#aa4117", "series-3": "#369e66", "series-4": "#492262"},
        **{"series-5": "#e66e08", "series-6": "#7b88aa", "series-7": "#321410", "series-8": "#1e6def"},
    },
    "dark": {
        **{"paper": "#14181d", "ink": "#e8ebee", "muted": "#9aa4af", "grid": "#323941", "faint": "#6e7681"},
        **{"bad": "#ff8a80", "idle": "#e3b341"},
        **{"series-1": "#9ed1fa", "series-2": "#e7821a", "series-3": "#6fdc9c", "series-4": "#908bf2"},
        **{"series-5": "#def761", "series-6": "#a7858f", "series-7": "#e8f4ee", "series-8": "#5162f7"},
    },
}
# Placeholder colours of a chart for the page; ``svg`` replaces them by CSS variables such as ``var(--ink)``.
SENTINELS: Colours = {name: f"#f0{number:02x}0d" for number, name in enumerate(THEMES["light"], 1)}

SERIES = 8
HATCHES = ("", "//", "\\\\", "||", "xx", "--", "++", "////")  # Lines only: dots take 100 kB of SVG.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
# Axes of which each value has the same colour in all charts.
FIXED_SERIES = {"precision": list(PRECISIONS), "activation_checkpointing": ["none", "selective", "every", "full"]}
assert {name.partition("=")[0] for name in CHECKPOINTING} == set(FIXED_SERIES["activation_checkpointing"])


def css_variables(theme: str) -> str:
    """Return the colours of ``light`` or ``dark`` as CSS: ``--paper:#ffffff;--ink:…``."""
    return "".join(f"--{name}:{value};" for name, value in THEMES[theme].items())


def series_numbers(axis: str, values: pd.Series) -> dict[str, int]:
    """Return the number of the series, from 0, of each value of an axis; they differ for up to SERIES values."""
    known = FIXED_SERIES.get(axis, [])
    found: dict[str, int] = {}
    for value in values.dropna().unique():
        name = str(value).partition("=")[0]
        taken = set(found.values())
        free = [n for n in (*range(len(known), SERIES), *range(SERIES)) if n not in taken]
        wanted = known.index(name) if name in known else None
        found[str(value)] = wanted if wanted is not None and wanted not in taken else (free or [len(found) % SERIES])[0]
    return found


def status_colour(status: str) -> str:
    """Return the colour of a status: ``idle`` if the case did not run or was interrupted, ``bad`` if it failed."""
    return "idle" if status in ("skipped", "interrupted") else "bad"


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours ``#rrggbb``, from 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    """Return the relative luminance of an sRGB colour, from 0 to 1 (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
