"""The documents: their shell lines, the files that they show, and their links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

COMMENT = r"(?:<!-- (?P<comment>[^\n]*) -->\n[ ]*)?"
BLOCK = re.compile(
    rf"^(?P<indent>[ ]*){COMMENT}```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
NOT_RUN, FILE = "not run: ", "file: "


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the HTML comment in the line above it."""

    page: Path
    language: str
    text: str
    comment: str

    @property
    def why_not_run(self) -> str:
        """Why its shell lines are not run; empty if they are."""
        return self.comment.removeprefix(NOT_RUN) if self.comment.startswith(NOT_RUN) else ""

    @property
    def lines(self) -> list[str]:
        """Its shell lines, each in one piece."""
        return self.text.replace("\\\n", " ").splitlines() if self.language == "sh" else []


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(page, m["language"], textwrap.dedent(m["text"]), m["comment"] or "") for m in found]


def files(*pages: Path) -> dict[str, str]:
    """Return the files that pages show: a block below ``<!-- file: NAME -->``."""
    shown = [block for page in pages for block in blocks(page) if block.comment.startswith(FILE)]
    return {block.comment.removeprefix(FILE): block.text for block in shown}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Return the targets of the links of a page that lead to files of the project."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"", text)
    return [target for pair in found for target in pair if target and not re.match(r"https?:", target)]
