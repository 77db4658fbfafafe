"""Edits of a run's files as people, editors and broken disks make them: drawn from a seed, and each said in words."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 10**30, 2**63, -(2**63) - 1, 1e308, float("inf"), float("nan")),
    *("", " ", "x", "a\0b", "\x1b[31m", "::error::x", "9" * 5000, "nan", "all", "auto", "1..8", "\ud800", "/" + "x" * 300),
    *([], {}, [[]], [None], {"a": 1}, [1, "a"], {"a": {"b": []}}),
)  # fmt: skip
CELLS = (
    *("", " ", "nan", "inf", "-inf", "1e400", "-5", "0", "-0", "1", "1.5", "99999999999999999999", "1e308", "1e-320"),
    *("true", "false", "TRUE", "yes", "None", "[1]", "{}", '{"a": 1}', "ok", "oom", "nonsense", "measure", "probe"),
    *("A", "B", "9" * 400, "x" * 5000, "é漢\u202e", "=cmd", "\x1b[31mred", "::error::x", "##vso[a]b", "a;b", "a,b"),
    *("/", "..", "<script>", "a\nb", "a\r\nb", "2026-13-45T99:99:99", "1970", "\x07", "\x7f", "\x85", "-1e300"),
)


def damaged(content: bytes, kind: str, random: random.Random) -> tuple[bytes, str]:
    """The content of a file (``json`` or ``csv``) with an edit, and the edit in words."""
    if random.random() < 0.25:
        return _bytes(content, random)
    return (_json if kind == "json" else _csv)(content, random)


def replaced(file: Path, random: random.Random) -> str:
    """Put something in the place of a file that is none, and say what."""
    file.unlink()
    what = random.choice(["nothing", "a FIFO", "a folder", "a broken link", "a loop", "a socket", "/dev/full"])
    makers: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "a FIFO": lambda: os.mkfifo(file),
        "a folder": file.mkdir,
        "a broken link": lambda: os.symlink("nowhere", file),
        "a loop": lambda: os.symlink(file.name, file),
        "a socket": lambda: _socket(file),
        "/dev/full": lambda: os.symlink("/dev/full", file),
    }
    makers[what]()
    return f"{what} in the place of {file.name}"


def _socket(file: Path) -> None:
    here = Path.cwd()
    os.chdir(file.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
    finally:
        os.chdir(here)


def _bytes(content: bytes, random: random.Random) -> tuple[bytes, str]:
    at = random.randrange(len(content))
    edits: dict[str, Callable[[], bytes]] = {
        "cut off": lambda: content[:at],
        "empty": lambda: b"",
        "a zero byte": lambda: content[:at] + b"\0" + content[at:],
        "zero bytes at the end": lambda: content + bytes(512),
        "a byte that is no UTF-8": lambda: content[:at] + b"\xff" + content[at:],
        "a byte order mark": lambda: b"\xef\xbb\xbf" + content,
        "UTF-16": lambda: content.decode().encode("utf-16"),
        "a quote": lambda: content[:at] + b'"' + content[at:],
        "a line feed": lambda: content[:at] + b"\n" + content[at:],
        "a carriage return": lambda: content[:at] + b"\r" + content[at:],
        "a byte left out": lambda: content[:at] + content[at + 1 :],
        "twice": lambda: content + content,
        "another file": lambda: bytes(random.randrange(256) for _ in range(300)),
        "brackets": lambda: b"[" * 100_000,
    }
    edit = random.choice(list(edits))
    return edits[edit](), f"{edit} at {at}"


def _json(content: bytes, random: random.Random) -> tuple[bytes, str]:
    root = [json.loads(content)]
    places = list(_places(root, ""))[1:] or list(_places(root, ""))
    holder, key, at = random.choice(places)
    match random.choice(["value", "value", "delete", "wrap", "swap", "rename"]):
        case "value":
            holder[key] = random.choice(VALUES)
            said = f"{at} = {holder[key]!r:.60}"
        case "delete":
            del holder[key]
            said = f"{at} is deleted"
        case "wrap":
            holder[key] = [holder[key]]
            said = f"{at} is put into a list"
        case "swap":
            other, there, where = random.choice(places)
            holder[key] = json.loads(json.dumps(other.get(there) if isinstance(other, dict) else None))
            said = f"{at} has the value of {where}"
        case _:
            if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            said = f"{at} is renamed"
    return (json.dumps(root[0] if root else None)).encode(), said


def _places(of: Any, at: str) -> Any:
    for key in list(of) if isinstance(of, dict) else range(len(of)):
        yield of, key, f"{at}.{key}"
        if isinstance(of[key], (dict, list)):
            yield from _places(of[key], f"{at}.{key}")


def _csv(content: bytes, random: random.Random) -> tuple[bytes, str]:
    head, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    column, row = random.randrange(len(head)), random.randrange(len(rows))
    value, name = random.choice(CELLS), head[column]
    match random.choice(
        ["cell", "cell", "cell", "column", "column", "delete", "twice", "swap", "row", "more", "again"]
    ):
        case "cell":
            rows[row][column] = value
            said = f"{name} = {value!r:.60} in row {row}"
        case "column":
            for cells in rows:
                cells[column] = value
            said = f"{name} = {value!r:.60} in every row"
        case "delete":
            for cells in (head, *rows):
                del cells[column]
            said = f"{name} is deleted"
        case "twice":
            head[column] = head[column - 1]
            said = f"{name} is called {head[column]}"
        case "swap":
            other = random.randrange(len(head))
            head[column], head[other] = head[other], head[column]
            said = f"{name} and {head[column]} are swapped"
        case "row":
            del rows[row]
            said = f"row {row} is deleted"
        case "more":
            rows[row].append("more")
            said = f"row {row} has a cell more"
        case _:
            rows.append(rows[row])
            said = f"row {row} is there twice"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=random.choice(["\r\n", "\n"])).writerows([head, *rows])
    return text.getvalue().encode(errors="backslashreplace"), said
