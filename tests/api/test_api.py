"""`import bench` in a Python program: the page that shows it, its keywords, and how it ends."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_ranks import Quiet, Turns, plain
from made_up_rows import launch, session, write

import bench
from bench import interrupts
from bench.api.keywords import ASKING, asked_for
from bench.api.margins import share
from bench.api.runs import Run
from bench.cli import node_options, slurm
from bench.cli.app import COMMANDS, make
from bench.errors import Interrupted
from bench.plan.options import AXES, SETTINGS
from bench.plan.plan import asked
from bench.store import runs

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
MLP = {"workload": "mlp", "strategy": "single", "gpus": 1, "device": "cpu", "steps": 5}


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Turns:
    """Launches without processes, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    made = Turns(tmp_path, [[], []])
    plain(monkeypatch, made)
    return made


def test_the_page_runs_as_it_stands(ranks: Turns) -> None:
    said = io.StringIO()
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(said):
        for source in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(compile(source, "docs/api.md", "exec"), names)
    run, gate, comparison = names["run"], names["gate"], names["comparison"]
    assert isinstance(run, Run)
    assert (run.status, run.exit_code, len(run.launches)) == ("ok", 0, 2)
    assert str(run.launches["samples_per_s"].dtype) == "Float64"
    assert gate.exit_code in (0, 1, 3)  # type: ignore[attr-defined]
    assert comparison.verdicts["verdict"].tolist() == ["inconclusive"]  # type: ignore[attr-defined]
    refused, fields, first, done = said.getvalue().splitlines()
    assert fields == "--strategy; single, dp, ddp, zero1, fsdp; Did you mean 'dp' or 'ddp'?"
    assert refused == "--strategy: got 'dpp'; allowed: single, dp, ddp, zero1, fsdp. Did you mean 'dp' or 'ddp'?"
    assert first == "1/1 mlp-single-x1-cpu-84c3a454"
    assert done.startswith("ok ")


def test_a_run_is_what_its_folder_holds(ranks: Turns) -> None:
    run = bench.run(**MLP, launches=2, out="results")
    loaded = bench.load("latest")
    assert loaded.folder == run.folder.resolve()
    assert loaded.launches.equals(run.launches)
    assert [row.status for row in loaded.rows] == ["ok", "ok"]
    assert run.run_id in run._repr_html_()


def test_what_failed_is_a_status_and_no_error(ranks: Turns) -> None:
    ranks.fails_at = lambda case, number: number == 1
    run = bench.run(**MLP, launches=3)
    assert (run.status, run.exit_code) == ("oom", 5)
    assert run.launches["status"].tolist() == ["ok", "oom", "skipped"]


def test_html_of_a_row_is_text() -> None:
    run = Run(Path("/runs/<b>"), (launch(status="crashed", reason="<script>"),))
    assert "<script>" not in run._repr_html_()
    assert "&lt;script&gt;" in run._repr_html_()
    assert "<b>" not in run._repr_html_()


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"strategy": ["ddp", "fsdp"]}, {"strategy": ["ddp,fsdp"]}),
        ({"strategy": "ddp,fsdp"}, {"strategy": ["ddp,fsdp"]}),
        ({"gpus": [1, 2], "channels_last": True}, {"gpus": ["1,2"], "channels_last": ["on"]}),
        ({"env": {"A": "1", "B": "x|y"}}, {"env": ["A=1", "B=x|y"]}),
        ({"workload": Path("mine.py:M")}, {"workload": ["mine.py:M"]}),
        ({"max_grad_norm": 0.5, "seed": None}, {"max_grad_norm": ["0.5"]}),
    ],
)
def test_keywords_ask_for_what_the_command_line_does(keywords: dict[str, object], words: dict[str, list[str]]) -> None:
    assert asked_for(keywords) == asked(words, {})


@pytest.mark.parametrize(
    ("call", "option", "given", "hint"),
    [
        (lambda: bench.run(stratgy="ddp"), "keyword", "stratgy", "Did you mean 'strategy'?"),
        (lambda: bench.run(strategy=[]), "strategy", [], None),
        (lambda: bench.run(steps="many"), "--steps", "many", None),
        (lambda: bench.run(retry="failed"), "--retry", None, "Add --resume RUN; bench results lists the runs."),
        (lambda: bench.ab(a={"stratgy": "ddp"}), "--a", "stratgy=ddp", "Did you mean 'strategy'?"),
        (lambda: bench.ab(launches=3), "launches", 3, "Give blocks."),
        (lambda: bench.ab(blocks=3, budget="1m"), "blocks", None, "Give one."),
        (lambda: bench.ab(detect="0.1%"), "--detect", "0.1%", "Give a larger --detect, or a smaller --floor."),
        (lambda: bench.compare("a", by="strategy"), "--by", "strategy", "Give B as well."),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(
    call: Callable[[], object], option: str, given: object, hint: str | None
) -> None:
    with pytest.raises(bench.UsageError) as raised:
        call()
    assert (raised.value.option, raised.value.given, raised.value.hint) == (option, given, hint)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bench.ab(blocks="5"), "blocks: got '5'; allowed: a whole number"),
        (lambda: bench.ab(blocks=True), "blocks: got True"),
        (lambda: bench.ab(a="steps=3"), "a: got 'steps=3'; allowed: a mapping"),
        (lambda: bench.ab(b={1: 2}), "b: got "),
        (lambda: bench.ab(a={"env": 5}), "a: env: got 5; allowed: a mapping"),
        (lambda: bench.ab(detekt=3), "keyword: got 'detekt'; .*Did you mean 'detect'"),
        (lambda: bench.check(5), "baseline: got 5"),
        (lambda: bench.check("x", flor=1), "keyword: got 'flor'; .*Did you mean 'floor'"),
        (lambda: bench.run(resume=5), "run: got 5"),
        (lambda: bench.run(resume="latest", retry=5), "retry: got 5"),
        (lambda: bench.run(resume="latest", retry=[[1]]), r"retry: got \[1\]"),
        (lambda: bench.run(out=None), "out: got None; allowed: a path"),
        (lambda: bench.run(oversubscribe="yes"), "oversubscribe: got 'yes'; allowed: True, False"),
        (lambda: bench.compare(1, 2), "run: got 1"),
        (lambda: bench.compare("a", "b", by=3), "by: got 3"),
        (lambda: bench.compare("a", "b", where=5), "where: got 5"),
        (lambda: bench.compare("a", "b", run={"a": 1}), "run: got "),
    ],
)
def test_a_value_of_a_wrong_type_is_a_usage_error(call: object, message: str) -> None:
    with pytest.raises(bench.UsageError, match=message):
        call()  # type: ignore[operator]


def test_a_shorter_name_and_words_for_true_are_understood() -> None:
    assert asked_for({"checkpointing": "full", "oversubscribe": "off"}) == asked_for(
        {"activation_checkpointing": "full"}
    )
    assert asked_for({"oversubscribe": "on"}).oversubscribe is True


def test_what_is_torn_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "runs" / "20260101-120000-00aa", session([100.0, 101.0]))
    file.write_bytes(file.read_bytes()[:-20])
    assert len(bench.load("latest", out=tmp_path).rows) == 1
    assert "the last row is not whole" in capsys.readouterr().err
    bench.compare("latest", "latest", out=tmp_path, session_spread="1%")
    assert "the last row is not whole" in capsys.readouterr().err


@pytest.mark.parametrize(
    "where", [{"oversubscribe": False}, {"timeout": 600.0}, {"side": None}, "strategy=ddp", ["strategy=ddp"], None]
)
def test_conditions_are_values_of_cells(tmp_path: Path, where: object) -> None:
    write(tmp_path / "runs" / "20260101-120000-00aa", session([100.0, 101.0], timeout=600.0))
    found = bench.compare("latest", "latest", out=tmp_path, where=where, floor=None, strict=None)
    assert len(found.verdicts) == 1
    with pytest.raises(bench.ResultsError, match="no measured launch that fits"):
        bench.compare("latest", "latest", out=tmp_path, where={"oversubscribe": True})


def test_values_of_a_column_and_runs_are_what_they_are(tmp_path: Path) -> None:
    rows = [*session([100.0, 101.0]), *session([50.0, 51.0], oversubscribe=True, launch_id="b")]
    write(tmp_path / "runs" / "20260101-120000-00aa", rows)
    run = bench.load("latest", out=tmp_path)
    for some in (run, [run], run.run_id, run.folder):
        found = bench.compare(False, True, by="oversubscribe", run=some, out=tmp_path)
        assert found.verdicts["case"].tolist() == ["a"]
    assert bench.load(run).rows == run.rows


@pytest.mark.parametrize(("status", "said"), [("exploded", "exploded"), (None, "unknown"), ("crashed", "crashed")])
def test_a_status_that_nobody_knows_is_no_success(status: str | None, said: str) -> None:
    run = Run(Path("/runs/r"), (launch(), launch(block=1, status=status, samples_per_s=None)))
    assert (run.status, run.exit_code) == (said, 5)


def test_a_check_and_a_comparison_leave_their_run_unlocked(ranks: Turns, tmp_path: Path) -> None:
    bench.ab(**MLP, blocks=5, out=tmp_path / "out")
    [folder] = (tmp_path / "out" / "runs").iterdir()
    assert not runs.busy(folder)


def test_a_signal_while_handlers_are_set_leaves_them_as_they_were(heard: None, monkeypatch: pytest.MonkeyPatch) -> None:
    install = interrupts.install

    def interrupted() -> None:
        install()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(interrupts, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.run(**MLP)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupts.pending() is None


def test_there_is_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(bench.ResultsError, match="run: got 'latest'"):
        bench.load("latest", out=tmp_path)


def test_every_option_of_the_commands_is_a_keyword() -> None:
    """But for those that say how a command prints and where it runs, and the words after --, which are keyword args."""
    printing = {"quiet", "as_json", "dry_run", "junit", "md", "json_file", "html", "plots", "help"}
    printing |= {option.name for option in (*node_options.OPTIONS, *slurm.OPTIONS)}
    for name, function in {"run": bench.run, "ab": bench.ab, "check": bench.check, "compare": bench.compare}.items():
        keywords = set(inspect.signature(function).parameters)
        (command,) = make(name).registered_commands
        options = set(inspect.signature(command.callback).parameters) - printing  # type: ignore[arg-type]
        sides = {f"{side}_{what}" for side in "ab" for what in ("env", "python", "rev")}  # in the mappings a and b
        assert options - sides - {"launches", "rest"} <= keywords, name
    assert set(AXES) | set(SETTINGS) | {"scaling", "script", "as_module", "suite", "oversubscribe"} == set(ASKING)


def test_a_share_is_a_number_or_a_percentage() -> None:
    assert share("--detect", "3%") == share("--detect", 0.03) == 0.03


def test_results_are_compared_as_objects_ids_or_paths(tmp_path: Path) -> None:
    for name, rate in (("20260101-120000-00aa", 100.0), ("20260102-120000-00bb", 50.0)):
        write(tmp_path / "runs" / name, session([rate, rate * 1.001], run_id=name))
    a, b = (bench.load(name, out=tmp_path) for name in ("20260101-120000-00aa", "20260102-120000-00bb"))
    for one, other in ((a, b), (a.run_id, b.run_id), (a.folder, b.folder)):
        found = bench.compare(one, other, session_spread="1%", out=tmp_path)
        assert found.verdicts["verdict"].tolist() == ["slower"]
        assert found.exit_code == 1
        assert "1 slower" in found.sentence


def test_the_observer_is_told(ranks: Turns) -> None:
    observer = Quiet()
    bench.run(**MLP, launches=1, observer=observer)
    assert any(note.startswith("describing mlp") for note in observer.notes)


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where the tests are run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_comes_after_the_launch_is_recorded(ranks: Turns, heard: None) -> None:
    """Ctrl-C in the middle of the second of three launches."""

    class Interrupts(Quiet):
        ended = 0

        def launch_ends(self, row: object) -> None:
            self.ended += 1
            if self.ended == 2:
                signal.raise_signal(signal.SIGINT)

    observer = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        bench.run(**MLP, launches=3, observer=observer)
    assert observer.ended == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [row.status for row in bench.load("latest").rows] == ["ok", "ok"]
    assert bench.run(resume="latest").launches["status"].tolist() == ["ok", "ok", "ok"]


def test_the_import_is_light_and_names_what_there_is() -> None:
    code = (
        "import sys, bench; names = [n for n in dir(bench) if n in ('run', 'ab', 'check', 'compare', 'load')];"
        "bench.run; bench.ab;"
        "print(names, [m for m in ('torch', 'pandas', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['ab', 'check', 'compare', 'load', 'run'] []\n"
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        bench.runn  # type: ignore[attr-defined]  # noqa: B018


def test_an_interrupt_says_its_number() -> None:
    assert (Interrupted(15).number, Interrupted(15).exit_code) == (15, 143)
    assert set(COMMANDS) >= {"run", "ab", "check", "compare"}
