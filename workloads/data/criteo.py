"""The text format of Criteo's Kaggle data: one line of 40 fields, separated by tabs, for each shown ad. No torch.

The fields are a label (clicked or not), 13 whole numbers and 26 categories as hexadecimal numbers; all but the label
may be empty.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

INTEGERS, CATEGORIES = 13, 26
FIELDS = 1 + INTEGERS + CATEGORIES
CHUNK_BYTES = 1 << 24


def parse(line: bytes, tables: int, rows: int) -> tuple[list[float], list[int], float]:
    """Return the numbers x as log(1 + max(x, 0)), the first ``tables`` categories modulo ``rows``, and the label.

    Empty fields are 0, as in Naumov et al.'s code. Raise ValueError for a line of another format.
    """
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) != FIELDS:
        raise ValueError(
            f"{len(fields)} fields between tabs; wanted {FIELDS}: a label, {INTEGERS} whole numbers, "
            f"{CATEGORIES} hexadecimal ones"
        )
    if fields[0] not in (b"0", b"1"):
        raise ValueError(f"the label is {_shown(fields[0])}; wanted 0 or 1")
    numbers = [math.log1p(max(_number(field, 10), 0)) for field in fields[1 : 1 + INTEGERS]]
    categories = [_number(field, 16) % rows for field in fields[1 + INTEGERS : 1 + INTEGERS + tables]]
    return numbers, categories, float(fields[0])


def count(path: str) -> int:
    """Return the number of lines of a file. Raise ValueError or OSError if its first line has another format."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError("there is no such file (give one file of Criteo's tab-separated lines)")
    lines, last = 0, b"\n"
    with file.open("rb") as stream:
        first = stream.readline()
        if not first:
            raise ValueError("the file is empty")
        try:
            parse(first, CATEGORIES, 1)
        except ValueError as error:
            raise ValueError(f"line 1: {error}") from None
        stream.seek(0)
        while chunk := stream.read(CHUNK_BYTES):
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    return lines + (last != b"\n")


def made_up(seed: int) -> bytes:
    """Return a line of the format, as a function of the seed alone.

    As in the real data, a quarter are clicks and some fields are empty. Categories are drawn log-uniformly, as a few
    are frequent and most are rare.
    """
    draw = random.Random(seed).random
    numbers = ("" if draw() < 0.2 else str(int(10 ** (4 * draw())) - 2) for _ in range(INTEGERS))
    categories = ("" if draw() < 0.1 else f"{_scrambled(n, int(10 ** (6 * draw()))):08x}" for n in range(CATEGORIES))
    return "\t".join([str(int(draw() < 0.25)), *numbers, *categories]).encode() + b"\n"


def _scrambled(column: int, value: int) -> int:
    """Return 32 bits that look random, by Knuth's multiplicative hash (The Art of Computer Programming, 6.4)."""
    return (column << 20 ^ value) * 2_654_435_761 & 0xFFFFFFFF


def _number(field: bytes, base: int) -> int:
    try:
        return int(field or b"0", base)
    except ValueError:
        kind = "whole" if base == 10 else "hexadecimal"
        raise ValueError(f"{_shown(field)} is not a {kind} number") from None


def _shown(field: bytes) -> str:
    return repr(field[:40].decode(errors="replace"))
