"""The arguments of a script: a template in which the names of axes in braces stand for a case's values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Sequence

from bench.errors import UsageError


def placeholders(template: str, axes: Collection[str]) -> set[str]:
    """Return the axes that a template names as ``{axis}``. Other braces are text; ``{{`` stands for one brace."""
    return {name for name in _pattern(axes).findall(template) if name}


def arguments(template: str, axes: Collection[str], value: Callable[[str], str]) -> list[str]:
    """Return the words of a template, split as a shell would and run by none, with ``value`` of each axis."""

    def replaced(word: str) -> str:
        return _pattern(axes).sub(lambda found: value(found[1]) if found[1] else "{", word)

    return [replaced(word) for word in split(template)]


def split(template: str) -> list[str]:
    """Return the words of a text, split as a shell would; UsageError for a quote that is not closed."""
    try:
        return shlex.split(template)
    except ValueError as error:
        raise UsageError(
            f"--args cannot be split into words: {error}",
            option="--args",
            given=template,
            hint="Quote it as for a shell, or give the arguments after --.",
        ) from None


def as_text(words: Sequence[str]) -> str:
    """Return words as a text that ``split`` gives back, with placeholders as they are."""
    plain = re.compile(r"(?:[\w@%+=:,./-]|\{[a-z_]+\})+")
    return " ".join(word if plain.fullmatch(word) else shlex.quote(word) for word in words)


def _pattern(axes: Collection[str]) -> re.Pattern[str]:
    return re.compile(r"\{\{|\{(" + "|".join(sorted(axes)) + r")\}")
