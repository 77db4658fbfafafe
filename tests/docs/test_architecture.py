"""docs/architecture.md: its layers are those that are checked, and its list of files is what is on the disk."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MODULE = re.compile(r"(bench|launch|workloads)(\.[a-z_]\w*)+(:\w+)?")


def layers() -> str:
    """The layers of pyproject.toml, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return "\n".join(
        f"{n}. {', '.join(f'`{name}`' for name in re.findall('[a-z_]+', row))}" for n, row in enumerate(found, 1)
    )


def files() -> str:
    """A table for each package: its files, and the first sentence of each."""
    said = []
    for folder in folders():
        rows = [f"| `{file.name}` | {first_sentence(file)} |" for file in sorted(folder.glob("*.py"))]
        said.append("\n".join([f"### {folder.relative_to(ROOT)}/", "", "| file | |", "|---|---|", *rows]))
    return "\n\n".join(said)


def folders() -> Iterator[Path]:
    for name in ("bench", "launch", "workloads"):
        yield from sorted(file.parent for file in (ROOT / name).rglob("__init__.py"))


def first_sentence(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split()).replace("|", "\\|")
    return paragraph.replace("``", "`")


def test_the_page_has_the_layers_and_every_file(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text()
    made = re.sub(r"(<!-- layers -->).*?(?=`rank` and)", lambda m: f"{m[1]}\n\n{layers()}\n\n", page, flags=re.DOTALL)
    made = made.partition("<!-- files -->")[0] + f"<!-- files -->\n\n{files()}\n"
    if request.config.getoption("--write-goldens"):
        PAGE.write_text(made)
        page = made
    assert page == made


def test_every_file_says_what_it_is_for() -> None:
    silent = [file for folder in folders() for file in folder.glob("*.py") if not first_sentence(file)]
    assert silent == []


def named() -> list[tuple[str, str]]:
    """Every text in our code that is the name of a module of ours, or of something in one: (file, name)."""
    found = []
    for folder in ("bench", "launch", "workloads", "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            texts = (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))
            found += [(str(file.relative_to(ROOT)), t) for t in texts if isinstance(t, str) and MODULE.fullmatch(t)]
    return found


def test_modules_that_texts_name_are_there() -> None:
    """`importlib`, monkeypatches and `python -m` take modules as texts, which no linter follows."""
    texts = [one for one in named() if not one[1].endswith((".py", ".toml"))]
    assert len(texts) > 50
    assert [one for one in texts if not is_there(one[1])] == []


def is_there(name: str) -> bool:
    """Return whether the module is there that a text begins with, and has what the text names in it."""
    parts = name.replace(":", ".").split(".")
    module = next(".".join(parts[:n]) for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    source = importlib.util.find_spec(module)
    if source is None or source.origin is None:
        return False
    rest = parts[module.count(".") + 1 :]
    return not rest or re.search(rf"\b{rest[0]}\b", Path(source.origin).read_text()) is not None


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
