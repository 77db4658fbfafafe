"""Every option that takes a path, with every path that it cannot use: a message and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_paths import bad_paths, run
from made_up_rows import launch, session, write

from bench.errors import ResultsError
from bench.report.files import write_text

RUN = "20260101-120000-00aa"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("paths")
    write(folder / "results/runs" / RUN, session([100, 101, 102, 103, 104]))
    write(folder / "results/baselines", [launch(run_id=f"r{n}", block=n) for n in range(5)], name="b.csv")
    with bad_paths(folder) as bad:
        yield folder, bad


DRY = ("--device", "cpu", "--workload", "mlp", "--dry-run")
# name -> the words of a command in which PATH is put, and the paths that are as good as any there
READ = {
    "run --suite": (["run", "--device", "cpu", "--dry-run", "--suite", "PATH"], ()),
    "run --workload": (["run", "--device", "cpu", "--dry-run", "--workload", "PATH.py:Net"], ("hostile",)),
    "run --data folder": (["run", *DRY, "--workload", "resnet18", "--data", "folder=PATH"], ()),
    "run --data text": (["run", *DRY, "--workload", "gpt-nano", "--data", "text=PATH"], ("a file",)),
    "run --data mnist": (["run", *DRY, "--workload", "mnist-cnn", "--data", "mnist=PATH"], ()),
    "run --data criteo": (["run", *DRY, "--workload", "dlrm", "--data", "criteo=PATH"], ()),
    "run --resume": (["run", "--resume", "PATH"], ()),
    "run --out": (["run", "--device", "cpu", "--workload", "mlp", "--steps", "2", "--out", "PATH"], ("a folder", "missing", "no name", "hostile")),
    "run --dry-run --out": (["run", *DRY, "--out", "PATH"], ("*",)),
    "report": (["report", "PATH"], ()),
    "report --out": (["report", "--out", "PATH"], ()),
    "compare": (["compare", "PATH", RUN], ()),
    "compare B": (["compare", RUN, "PATH"], ()),
    "results": (["results", "--out", "PATH"], ("*",)),
    "results show": (["results", "show", "PATH"], ()),
    "results rm": (["results", "rm", "--yes", "PATH"], ()),
    "results export": (["results", "export", "PATH", "--pytest-benchmark", "x.json"], ()),
    "env --diff": (["env", "--diff", "PATH", RUN], ()),
    "check": (["check", "--baseline", "PATH", "--run", RUN], ()),
    "check --run": (["check", "--baseline", "b", "--run", "PATH"], ()),
    "check --out": (["check", "--baseline", "b", "--run", RUN, "--out", "PATH"], ()),
    "baseline add": (["baseline", "add", "new", "PATH"], ()),
    "baseline list": (["baseline", "list", "--out", "PATH"], ("*",)),
    "baseline rm": (["baseline", "rm", "PATH", "--yes"], ()),
}  # fmt: skip
WRITTEN = {
    "report --html": ["report", RUN, "--html", "PATH"],
    "report --md": ["report", RUN, "--md", "PATH"],
    "report --csv": ["report", RUN, "--csv", "PATH"],
    "report --plots": ["report", RUN, "--plots", "PATH"],
    "compare --junit": ["compare", RUN, RUN, "--junit", "PATH"],
    "compare --md": ["compare", RUN, RUN, "--md", "PATH"],
    "results export": ["results", "export", RUN, "--pytest-benchmark", "PATH"],
}
OVERWRITES = ("a file", "missing", "hostile", "not UTF-8", "no name", "a broken link")  # as a shell's > would


def words_of(template: list[str], path: str) -> list[str]:
    return [word.replace("PATH", path) for word in template]


@pytest.mark.parametrize("name", READ)
def test_a_path_that_cannot_be_read(
    place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, bad = place
    template, good = READ[name]
    monkeypatch.chdir(folder)
    for kind, path in bad.items():
        if kind in good and name == "run --out":
            continue  # it would launch
        ended = run(monkeypatch, *words_of(template, path))
        assert ended.code in (2, 4, 5) or ((kind in good or "*" in good) and ended.code in (0, 5)), (kind, ended)
        assert "Traceback" not in ended.said, (kind, ended.said)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_a_path_that_cannot_be_written(
    place: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, bad = place
    monkeypatch.chdir(folder)
    for kind, path in bad.items():
        if kind in OVERWRITES:
            continue
        ended = run(monkeypatch, *words_of(WRITTEN[name], path))
        makes_files = name in ("report --csv", "report --plots") and kind == "a folder"
        assert ended.code in ((0,) if makes_files else (2, 4, 5)), (kind, ended)
        assert "Traceback" not in ended.said, (kind, ended.said)


def test_a_report_where_it_cannot_be_written(place: tuple[Path, dict[str, str]]) -> None:
    for kind, path in place[1].items():
        if kind not in OVERWRITES:
            with pytest.raises(ResultsError, match=r"^cannot write .*\. Choose another path\.$"):
                write_text(Path(path), "text")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (f"[[matrix]]\nseed = {'9' * 5000}\n", "mine.toml: not a TOML file: "),
        (
            f"[[matrix]]\nseed = 0x{'f' * 5000}\n",
            "matrix[0].seed: got a number of 20,000 bits; allowed: a whole number",
        ),
        (
            "[[matrix]]\nseed = 9223372036854775808\n",
            "matrix[0].seed: got 9223372036854775808; allowed: a whole number",
        ),
        ("[[matrix]]\nbatch_size = [4, 1e400]\n", "matrix[0].batch_size: got inf; allowed: "),
        ('[[matrix]]\ndata = "folder=a\\u0000b"\n', "matrix[0].data: got 'folder=a\\x00b'; allowed: "),
        ('[[matrix]]\nworkload = "a\\u0000b.py:Net"\n', "matrix[0].workload: got 'a\\x00b.py:Net'; allowed: "),
        ('[[matrix]]\nenv = "A=\\u0000"\n', "matrix[0].env: got "),
        ("[protocol]\ntimeout = inf\n[[matrix]]\n", "protocol.timeout: got inf; allowed: seconds from 1."),
        ("[protocol]\nsteps = 1979-05-27\n[[matrix]]\n", "protocol.steps: got datetime.date(1979, 5, 27); allowed: "),
        ("[protocol]\nsteps = true\n[[matrix]]\n", "protocol.steps: got True; allowed: a whole number from 2."),
        ('"\\u001b[31m" = 1\n', "mine.toml: got '\\x1b[31m'; allowed: the keys protocol, matrix."),
        ("\0", "mine.toml: not a TOML file: "),
        ("a = " + "[" * 100_000, "mine.toml: its lists or tables are nested too deeply"),
    ],
)
def test_a_suite_with_a_value_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str, message: str
) -> None:
    (tmp_path / "mine.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    ended = run(monkeypatch, "run", "--device", "cpu", "--dry-run", "--suite", "mine.toml")
    assert ended.code == 2
    assert message in ended.said
