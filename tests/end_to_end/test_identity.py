"""Launches of unlike code, environment, launcher or window are never put into one case, and everybody is told."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest
from command_line import Run, latest, start_bench
from in_process import bench
from made_up_rows import blocks, launch, session, write
from plain_case import PLAIN
from processes import wait_for

from bench.analysis.frames import launches
from bench.analysis.summary import summarise
from bench.plan.code_key import FirstSeen, Source, code_key, digest
from bench.plan.work_key import work_key
from bench.rank.code import ImportedCode
from bench.stats.ab_gate import gate
from bench.stats.comparison import compare
from bench.stats.verdict import Rules
from bench.store.baselines import load, settled
from bench.store.code_versions import with_codes
from bench.store.columns import LaunchRow
from bench.store.env_key import env_key
from bench.store.environments import with_environments
from bench.store.reader import read, read_launches
from bench.store.resume import changed_code, earlier_run

A, B, C, D, E, F = (f"2026010{day}-000000-{letter * 4}" for day, letter in enumerate("abcdef", 1))
MINE = {"workload": "mine.py:Net"}
HERE = {"torch": "2.11.0", "device_name": "cpu", "settings": "{}", "launcher": "server", "steps": 30}
RULES = Rules()

# -- keys ----------------------------------------------------------------------------------------------------------


def test_no_reader_takes_a_key_for_a_number() -> None:
    """Of 2,000 keys of each kind; of their hexadecimal digits alone some are numbers, and pandas reads inf."""
    count = 2000
    keys = [
        *(work_key(dataclasses.replace(PLAIN, batch_size=n), "resident") for n in range(1, count + 1)),
        *(env_key({"torch": f"2.{n}"}) for n in range(count)),
        *(str(code_key(frozenset({Source("m", "/m.py", digest(b"%d" % n))}))) for n in range(count)),
    ]
    assert len(set(keys)) == 3 * count
    assert not any(map(is_number, keys))
    numbers = [key[1:] for key in keys if is_number(key[1:])]
    assert len(numbers) > 10  # about 7 in 1,000
    for digits in numbers:  # each a column of its own: a text in a column keeps the numbers in it as they are
        keyed, bare = (pd.read_csv(io.StringIO(f"key\n{text}\n"))["key"] for text in (f"w{digits}", digits))
        assert list(keyed) == [f"w{digits}"]
        assert pd.api.types.is_numeric_dtype(bare)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_keys_of_older_versions_get_their_letters_when_they_are_read(tmp_path: Path) -> None:
    file = write(tmp_path, [launch(schema=6, work_key="123456789012", env_key="7e1100000000"), launch(work_key="own")])
    old, other = read(file, pytest.fail)
    assert (old["work_key"], old["env_key"], other["work_key"]) == ("w123456789012", "e7e1100000000", "own")


# -- which files ---------------------------------------------------------------------------------------------------


def project(folder: Path, **files: str) -> Path:
    """A workload's sibling and a package beside it."""
    for name, text in {"alone": "X = 1\n", "pack/__init__": "", "pack/deep": "Y = 1\n", **files}.items():
        file = folder / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def imported(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: Sequence[str] = ("alone", "pack.deep"),
    target: str = "mine.py:Net",
) -> frozenset[Source]:
    """What a process has imported of the user's that imports these modules from a folder."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        code = ImportedCode(target.replace("mine.py", str(folder / "mine.py")))
        before = set(sys.modules)
        for name in names:
            __import__(name)
        code.update()
        for name in set(sys.modules) - before:
            del sys.modules[name]
    return frozenset(source for source in code.sources if source.file.startswith(str(folder.resolve())))


def test_the_key_is_of_contents_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = imported(project(tmp_path / "a"), monkeypatch)
    b = imported(project(tmp_path / "elsewhere" / "b"), monkeypatch, names=("pack.deep", "alone"))
    assert {source.name for source in a} == {"alone.py", "pack/__init__.py", "pack/deep.py"}
    assert code_key(a) == code_key(b)
    assert str(code_key(a)).startswith("c")


@pytest.mark.parametrize("file", ["alone", "pack/deep", "pack/__init__"])
def test_a_constant_in_any_imported_file_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    a = imported(project(tmp_path / "a"), monkeypatch)
    b = imported(project(tmp_path / "b", **{file: "X = 2\n"}), monkeypatch)
    assert code_key(a) != code_key(b)


def test_the_same_files_with_other_packages_are_other_code() -> None:
    files = frozenset({Source("m", "/m.py", digest(b"1"))})
    of_packages = [
        code_key(files),
        code_key(files, "timm 1.0"),
        code_key(files, "timm 1.1"),
        code_key(frozenset(), "timm 1.0"),
    ]
    assert len(set(of_packages)) == 4
    assert code_key(frozenset()) is None


def test_what_is_not_imported_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = imported(project(tmp_path / "a"), monkeypatch)
    b = imported(project(tmp_path / "b", other="Z = 1\n"), monkeypatch)
    (tmp_path / "b" / "data.csv").write_text("1,2\n")
    assert code_key(a) == code_key(b)


def test_contents_that_change_places_are_other_code() -> None:
    one = {Source("p.a", "/p/a.py", "1"), Source("p.b", "/p/b.py", "2")}
    other = {Source("p.a", "/p/a.py", "2"), Source("p.b", "/p/b.py", "1")}
    assert code_key(frozenset(one)) != code_key(frozenset(other))


def test_what_somebody_installed_is_not_the_users_but_the_workloads_own_package_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path / "env" / "site-packages")
    target = project(tmp_path / "target")  # pip install --target
    (target / "alone-1.0.dist-info").mkdir()
    assert imported(tmp_path / "env" / "site-packages", monkeypatch, target="other:Net") == frozenset()
    assert imported(target, monkeypatch, target="other:Net") == frozenset()
    own = imported(tmp_path / "env" / "site-packages", monkeypatch, target="pack.deep:Net")
    assert {source.name for source in own} == {"pack/__init__.py", "pack/deep.py"}


@pytest.mark.parametrize("variable", ["TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR"])
def test_what_a_compiler_generated_is_not_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    cache = project(tmp_path / "cache" / "ab")
    assert len(imported(cache, monkeypatch, target="other:Net")) == 3
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    monkeypatch.setenv(variable, str(tmp_path / "link"))
    assert imported(cache, monkeypatch, target="other:Net") == frozenset()
    assert len(imported(project(tmp_path / "cache-of-mine"), monkeypatch, target="other:Net")) == 3


def test_an_editable_install_is_the_users_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are in a checkout, to which the interpreter's folder leads by a link."""
    project(tmp_path / "checkout")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "pack").symlink_to(tmp_path / "checkout" / "pack")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "site-packages"))
        code = ImportedCode("other:Net")
        __import__("pack.deep")
        code.update()
        del sys.modules["pack"], sys.modules["pack.deep"]
    assert {s.name for s in code.sources if "checkout" in s.file} == {"pack/__init__.py", "pack/deep.py"}


def test_torch_python_and_the_tool_are_nobodys() -> None:
    import torchvision  # noqa: F401

    code = ImportedCode("other:Net")
    code.update()
    tops = {source.module.partition(".")[0] for source in code.sources}
    assert not tops & {"torch", "torchvision", "json", "bench", "launch", "workloads", "numpy", "triton", "pandas"}


def test_a_built_in_workload_has_no_code_of_the_users() -> None:
    code = ImportedCode("workloads.resnet:ResNet")
    code.update()
    assert code.sources == []
    assert code_key(frozenset()) is None


def test_a_file_is_named_in_one_line_that_a_terminal_can_show() -> None:
    assert Source("p.q", "/home/me/p/q.py", "1").name == "p/q.py"
    assert Source("p", "/home/me/p/__init__.py", "1").name == "p/__init__.py"
    assert Source("bench_user_m", "/a/m\x1b[2J\n.py", "1").name == r"m\x1b[2J\n.py"


def test_what_changed_is_held_against_the_first_launch_that_imported_it() -> None:
    seen = FirstSeen()
    one, late = Source("m", "/m.py", "1"), Source("late", "/late.py", "1")
    edited = Source("m", "/m.py", "2")
    assert seen.changed("m.py:Net", frozenset({one})) == []
    assert seen.changed("m.py:Net", frozenset({edited, late})) == [edited]
    assert seen.changed("m.py:Net", frozenset({one, late})) == []
    assert seen.changed("other/m.py:Net", frozenset({edited})) == []  # another workload's file of that name


# -- a real run, of which a file is edited between two launches -------------------------------------------------------

NET = """
import time
from pathlib import Path

import torch

from pack import deep

GO = Path(__file__).with_name("go")


class Net:
    unit, batch_size = "samples", 4

    def build(self):
        return torch.nn.Linear(8, deep.Y)

    def loss(self, model, batch):
        while batch[0].device.type == "cpu" and not GO.exists():
            time.sleep(0.01)
        return model(batch[0]).square().mean()

    def samples(self, data):
        return torch.utils.data.TensorDataset(torch.ones(64, 8))

    def layers(self, model):
        return []
"""


@pytest.fixture(scope="module")
def edited(launching: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = project(tmp_path_factory.mktemp("edited"), mine=NET)
    words = ("--workload", "mine.py:Net", "--strategy", "single", "--device", "cpu", "--steps", "3", "--launches", "3")
    process = start_bench(folder, "run", *words, "--quiet")
    wait_for(lambda: _says_code(folder), 120)
    (folder / "pack" / "deep.py").write_text("Y = 100\n")  # of another length: Python looks at times in seconds
    (folder / "go").touch()
    stdout, stderr = process.communicate(timeout=200)
    return folder, Run(process.returncode, stdout, stderr, latest(folder))


def _says_code(folder: Path) -> bool:
    found = list(folder.glob("results/runs/*/logs/0000-*/rank0.json"))
    return bool(found) and bool(json.loads(found[0].read_text())["code"])


def test_a_file_edited_in_the_middle_of_a_run_is_a_warning_a_column_and_a_case(edited: tuple[Path, Run]) -> None:
    folder, run = edited
    assert run.code == 0, run.stderr
    first, *others = run.rows()
    assert len(others) == 2
    assert first["code_key"][0] == "c" != first["code_changed"]
    assert {row["code_key"] for row in others} != {first["code_key"]}
    assert len({row["code_key"] for row in others}) == 1
    assert [row["code_changed"] for row in (first, *others)] == ["", "pack/deep.py", "pack/deep.py"]
    assert run.stderr.count("pack/deep.py has changed since the run began") == 1
    assert len({row["work_key"] for row in (first, *others)}) == 1
    for said in (run.stdout, bench(folder, "report", "latest").out, bench(folder, "results", "show", "latest").out):
        assert "code 1" in said
        assert "code 2" in said


def test_it_is_not_taken_up_again_with_a_file_that_was_edited(edited: tuple[Path, Run]) -> None:
    """Of the workload's package, which the plan knows nothing of; rank's records say what they imported."""
    folder, run = edited
    assert run.folder is not None
    rows = tuple(read_launches(run.folder / "launches.csv", pytest.fail))
    earlier = dataclasses.replace(earlier_run(run.folder, frozenset(), False), rows=rows)
    assert changed_code(earlier.code()) == [f"{(folder / 'pack' / 'deep.py').resolve()} has changed"]


# -- code in what is reported ----------------------------------------------------------------------------------------


def summary(*rows: LaunchRow) -> pd.DataFrame:
    return summarise(with_codes(with_environments(launches(rows))))


def of_code(key: str | None, rates: Sequence[float], run: str = A, **known: Any) -> list[LaunchRow]:
    return session(rates, run_id=run, code_key=key, **{**HERE, **MINE, **known})


def test_launches_of_unlike_code_are_two_cases_and_their_medians_two() -> None:
    found = summary(*of_code("c1", [100.0, 110.0, 120.0]), *of_code("c2", [10.0, 20.0], B))
    assert list(found["samples_per_s"]) == [median([100, 110, 120]), 15.0]
    assert (list(found["code"]), list(found["launches"])) == ([0, 1], [3, 2])


def test_a_launch_that_failed_belongs_to_the_code_of_its_run() -> None:
    failed = of_code(None, [1.0], B)[0].but(status="crashed", samples_per_s=None, block=1)
    found = summary(*of_code("c1", [100.0]), *of_code("c2", [50.0], B), failed)
    assert list(found["launches"]) == [1, 2]


def test_a_launch_that_failed_after_an_edit_makes_no_one_version_of_two() -> None:
    edited = {"code_changed": "m.py", "block": 1}
    failed = of_code(None, [1.0], seed=1)[0].but(status="oom", samples_per_s=None)
    rows = [*of_code("c1", [100.0]), of_code("c2", [50.0])[0].but(**edited), failed]
    found = summary(*rows)
    assert list(found[["code_key", "code", "launches"]].itertuples(index=False, name=None)) == [
        *(("c1", 0, 1), ("c2", 1, 1), ("c2", 1, 1)),
    ]


def test_code_that_nobody_knows_is_not_put_with_code_that_is_known() -> None:
    """Rows of an older version have no code_key."""
    assert list(summary(*of_code(None, [100.0]), *of_code("c1", [50.0], B))["launches"]) == [1, 1]


def test_cases_of_one_run_that_import_different_files_are_of_one_version() -> None:
    """Under data parallelism it imports one file more: still one question, and not two."""
    found = summary(
        *of_code("c1", [100.0]), *of_code("c1+", [50.0], seed=1), *of_code("c2", [10.0], B),
        *of_code("c2+", [20.0], B, seed=1),
    )  # fmt: skip
    assert list(found["code"]) == [0, 1, 0, 1]


def runs_of(folder: Path, *runs: Sequence[LaunchRow]) -> Path:
    for rows in runs:
        write(folder / "results" / "runs" / str(rows[0].run_id), rows)
    return folder


def test_report_names_both_and_chooses_none_of_the_others(tmp_path: Path) -> None:
    runs_of(tmp_path, of_code("c1", [100.0] * 3), of_code("c2", [50.0] * 3, B))
    done = bench(tmp_path, "report", A, B, "--csv", "tables", "--html", "page.html")
    assert "2 cases, 6 launches in 2 runs" in done.out
    assert f"code 1 in {A}; code 2 in {B}" in done.out
    with (tmp_path / "tables" / "summary.csv").open(newline="") as stream:
        assert [(row["code_key"], row["launches"]) for row in csv.DictReader(stream)] == [("c1", "3"), ("c2", "3")]
    assert "code 2" in (tmp_path / "page.html").read_text()


def test_compare_says_that_code_differs_and_decides() -> None:
    a = [row for run in (A, B, C) for row in of_code("c1", [100.0 + int(run[7]), 101.0], run)]
    b = [row for run in (D, E, F) for row in of_code("c2", [50.0 + int(run[7]), 51.0], run)]
    found = compare(a, b, RULES)
    assert [one.verdict for one in found.verdicts] == ["slower"]
    assert "code_key: c1 in A, c2 in B" in found.differences


def test_compare_puts_no_two_codes_of_a_side_together() -> None:
    a = [*of_code("c1", [100.0] * 5), *(row.but(block=5 + n) for n, row in enumerate(of_code("c2", [10.0] * 5)))]
    b = of_code("c1", [100.0] * 5, B)
    found = compare(a, b, RULES)
    assert [(one.case, one.samples_per_s_a, one.samples_per_s_b) for one in found.verdicts] == [
        ("a-workload=mine.py:Net (environment A, code 1)", 100.0, 100.0),
        ("a-workload=mine.py:Net (environment A, code 2)", 10.0, None),
    ]
    assert any("not combined" in note for note in found.notes)


def test_ab_decides_between_codes_but_not_where_a_side_was_edited() -> None:
    ratios = [0.5 + n / 1000 for n in range(8)]
    rows = [*blocks(ratios), *blocks(ratios, first=8, stage=2)]
    told = [row.but(code_key={"A": "c1", "B": "c2"}[row.side]) for row in rows]
    found = gate(told, RULES, "a", "b")
    assert [one.verdict for one in found.verdicts] == ["slower"]
    assert "code_key: c1 in A, c2 in B" in found.differences
    late = [row.but(code_key="c3", code_changed="m.py") if row.block == 15 and row.side == "A" else row for row in told]
    (one,) = gate(late, RULES, "a", "b").verdicts
    assert (one.verdict, one.reason) == ("inconclusive", "m.py changed while A was measured; measure it again")


# -- baselines -------------------------------------------------------------------------------------------------------


def test_check_says_that_code_differs_and_decides(tmp_path: Path) -> None:
    sessions = [of_code("c1", [100.0 + n, 100.0 - n, 100.0], run) for n, run in enumerate((A, B, C, D, E))]
    runs_of(tmp_path, *sessions, of_code("c2", [50.0] * 3, F))
    assert bench(tmp_path, "baseline", "add", "main", A, B, C, D, E).code == 0
    done = bench(tmp_path, "check", "--baseline", "main", "--run", F, "--json")
    assert (done.code, done.told["verdicts"][0]["verdict"]) == (1, "slower")
    assert done.told["differences"] == ["code_key: c1 in A, c2 in B"]


def test_a_baseline_of_several_codes_is_a_history_and_says_so(tmp_path: Path) -> None:
    """5 sessions of the first code at 100 samples/s, 5 of the second at 50: a run of the second is held against those
    5 alone, and one of a third against all, which differ by far more than it."""
    names = [f"202601{n:02}-000000-aaaa" for n in range(1, 13)]
    first = [of_code("c1", [100.0 + n] * 3, run) for n, run in enumerate(names[:5])]
    second = [of_code("c2", [50.0 + n / 2] * 3, run) for n, run in enumerate(names[5:10])]
    runs_of(tmp_path, *first, *second, of_code("c2", [40.0] * 3, names[10]), of_code("c3", [40.0] * 3, names[11]))
    assert bench(tmp_path, "baseline", "add", "main", *names[:5]).err == ""
    added = bench(tmp_path, "baseline", "add", "main", *names[5:10])
    assert added.code == 0
    assert added.err.count("with other code (code_key) than in baseline main") == 1
    own, other = (bench(tmp_path, "check", "--baseline", "main", "--run", run, "--json").told for run in names[10:])
    assert [one["verdict"] for said in (own, other) for one in said["verdicts"]] == ["slower", "inconclusive"]
    assert own["verdicts"][0]["samples_per_s_a"] == 51.0
    assert other["differences"] == ["code_key: c1 and c2 in A, c3 in B"]


UNLIKE = {"torch": {"torch": "2.12.0"}, "launcher": {"launcher": "torchrun"}, "steps": {"steps": 300}}


@pytest.mark.parametrize("name", UNLIKE)
def test_a_run_that_was_resumed_elsewhere_is_no_session(tmp_path: Path, name: str) -> None:
    other = of_code("c1", [50.0] * 3, session=1, **UNLIKE[name], env_key="other")
    runs_of(tmp_path, [*of_code("c1", [100.0] * 3), *(row.but(block=3 + n) for n, row in enumerate(other))])
    done = bench(tmp_path, "baseline", "add", "main", A)
    assert done.code == 4
    assert "environment A and environment B" in done.err


@pytest.mark.parametrize("name", UNLIKE)
def test_a_baseline_of_unlike_launches_is_judged_by_those_of_its_last_kind(tmp_path: Path, name: str) -> None:
    """As an older version made it, or a person who joined two files: 2 sessions at 50, then 5 at 100 samples/s."""
    old = [row for run in (A, B) for row in of_code("c1", [50.0] * 3, run, **UNLIKE[name])]
    now = [row for n in range(5) for row in of_code("c1", [100.0 + n] * 3, f"2026020{n}-000000-aaaa")]
    write(tmp_path / "results" / "baselines", [*old, *now], name="main.csv")
    warned: list[str] = []
    kept = settled(load(tmp_path / "results", "main", pytest.fail), warned.append)
    assert {row.samples_per_s for row in kept.rows} == {100.0, 101.0, 102.0, 103.0, 104.0}
    assert "6 launches are left out" in warned[0]
    runs_of(tmp_path, of_code("c1", [100.0] * 3, F))
    done = bench(tmp_path, "check", "--baseline", "main", "--run", F, "--json")
    assert done.told["verdicts"][0]["samples_per_s_a"] == 102.0


# -- environments of launches ------------------------------------------------------------------------------------------


def resumed(run: str = A, **unlike: Any) -> list[LaunchRow]:
    """A run with 3 launches at 100 samples/s, and after --resume-anyway 3 at 50 elsewhere."""
    later = [row.but(block=n) for n, row in enumerate(of_code("c1", [50.0] * 3, run, session=1, **unlike), 3)]
    return [*of_code("c1", [100.0] * 3, run), *later]


@pytest.mark.parametrize("name", UNLIKE)
def test_a_run_in_two_environments_is_two_cases_in_a_report(name: str) -> None:
    found = summary(*resumed(**UNLIKE[name]))
    assert list(found[["environment", "samples_per_s"]].itertuples(index=False, name=None)) == [("A", 100), ("B", 50)]


def test_a_launch_that_failed_early_is_of_the_environment_of_its_session() -> None:
    failed = resumed()[-1].but(torch=None, device_name=None, status="crashed", samples_per_s=None)
    found = summary(*resumed(torch="2.12.0"), failed, failed.but(session=0))
    assert list(found["launches"]) == [4, 4]


@pytest.mark.parametrize("name", UNLIKE)
def test_compare_holds_each_environment_against_itself(name: str) -> None:
    found = compare(resumed(**UNLIKE[name]), of_code("c1", [100.0] * 3, B), RULES)
    assert [(one.case[-15:], one.samples_per_s_a, one.samples_per_s_b) for one in found.verdicts] == [
        ("(environment A)", 100.0, 100.0),
        ("(environment B)", 50.0, None),
    ]
    assert found.verdicts[1].verdict == "missing"


def test_an_export_has_a_benchmark_for_each(tmp_path: Path) -> None:
    runs_of(tmp_path, [row.but(global_batch=10) for row in resumed(torch="2.12.0")])
    assert bench(tmp_path, "results", "export", A, "--pytest-benchmark", "out.json").code == 0
    found = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert [(one["name"][-15:], one["stats"]["rounds"], one["stats"]["median"]) for one in found] == [
        ("(environment A)", 3, 0.1),
        ("(environment B)", 3, 0.2),
    ]


# -- the launcher ------------------------------------------------------------------------------------------------------


def test_no_verdict_on_memory_across_launchers() -> None:
    """Forked ranks share torch's pages, and those of torchrun do not: 400 MiB against 670 of the same."""
    a = [row for run in (A, B, C) for row in of_code("c1", [100.0] * 3, run, device="cpu", peak_rss_mib=400.0)]
    more = {"device": "cpu", "peak_rss_mib": 670.0}
    b = [row for run in (D, E, F) for row in of_code("c1", [100.0] * 3, run, launcher="torchrun", **more)]
    found = compare(a, b, RULES)
    assert (found.verdicts[0].memory, found.verdicts[0].verdict, found.exit_code) == (None, "same", 0)
    assert "launcher: server in A, torchrun in B" in found.differences
    same = compare(a, [row.but(launcher="server") for row in b], RULES)
    assert (same.verdicts[0].memory, same.exit_code) == ("more", 1)


def test_a_baseline_insists_on_the_launcher_and_the_window(tmp_path: Path) -> None:
    keyed = [row.but(env_key=env_key(row.columns())) for row in of_code("c1", [100.0] * 3)]
    other = [row.but(env_key=env_key(row.columns())) for row in of_code("c1", [100.0] * 3, B, launcher="torchrun")]
    longer = [row.but(env_key=env_key(row.columns())) for row in of_code("c1", [100.0] * 3, C, steps=300)]
    runs_of(tmp_path, keyed, other, longer)
    assert bench(tmp_path, "baseline", "add", "main", A).code == 0
    for run, said in ((B, "launcher: server in the baseline, torchrun now"), (C, "steps: 30 in the baseline, 300 now")):
        done = bench(tmp_path, "check", "--baseline", "main", "--run", run)
        assert done.code == 4
        assert said in done.err
