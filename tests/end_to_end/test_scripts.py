"""Training scripts as they are: what is measured of them agrees with a stopwatch of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, run_bench
from measured_scripts import BRIEF, SCRIPTS, STEPS, Scripts

# -- what works ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("alone"), ["gan", "lbfgs", "scaler", "detection"], "--gpus", "1")


@pytest.fixture(scope="module")
def together(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("together"), ["ddp", "streamed", "dispatched"], "--gpus", "2")


@pytest.mark.parametrize(
    ("name", "samples", "step"),
    [("gan", 50, "Adam"), ("lbfgs", 32, "LBFGS"), ("scaler", 64, "AdamW"), ("detection", 8, "SGD")],
)
def test_scripts_of_one_rank_agree_with_their_own_stopwatch(alone: Scripts, name: str, samples: int, step: str) -> None:
    row = alone.check(name, samples, ranks=1)
    assert row["script_step"] == step
    assert (row["strategy"], row["device_name"], row["backend"], row["num_threads"]) == ("script", "cpu", "", "1")


def test_ddp_with_checkpoints_of_one_rank(together: Scripts) -> None:
    row = together.check("ddp", 8, ranks=2)
    assert (row["script_seen"], row["backend"], row["parameters"]) == ("ddp", "gloo", str(65 * 256 + 257 * 10))
    assert row["took_effect"] == "4 parameters equal bit by bit over 2 replicas"
    assert row["code_key"].startswith("c")
    assert not (together.home / "checkpoint.pt").exists()
    assert not any((together.home / "out").iterdir())
    assert "scripts run in a folder of their own" in together.run.stderr


def test_ranks_without_a_loader_begin_their_window_with_the_others(together: Scripts) -> None:
    row = together.check("dispatched", 8, ranks=2)
    assert (row["warmup_steps_done"], row["apart_steps"]) == ("11", "0")  # 3, and 8 that empty the queues of 7


def test_fsdp_with_a_stream(together: Scripts) -> None:
    row = together.row("streamed")
    assert (row["status"], row["script_seen"]) == ("ok", "fsdp2, mesh 2: S; checkpointing")
    assert row["parameters"] == str(3 * 64 * 65 + 65 * 10)
    assert row["apart_why"] == "new epoch 1"  # 204 samples are 25 batches of 8 and one of 4
    assert int(row["samples"]) == 2 * (8 * int(row["window_steps"]) - 4)


def test_names_of_ours_do_not_shadow_the_scripts(launching: None, tmp_path: Path) -> None:
    """The structure of nanoGPT, started by torchrun: it has a bench.py, and reads a file of the current folder."""
    words = ("--gpus", "2", "--launcher", "torchrun", "--samples-per-step", "64")
    row = Scripts(tmp_path, ["nanogpt"], *words).row("nanogpt")
    assert (row["status"], row["reason"], row["script_seen"]) == ("ok", "", "ddp")
    assert (row["global_batch"], row["samples"]) == ("64", str(64 * STEPS))


def test_the_command_for_the_record(bench: Any, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    command = ("--script", "scripts/ddp.py", "--args", "--bs {batch_size}", "--batch-size", "16", "--gpus", "2")
    more = ("--device", "cpu", "--steps", "200", "--warmup-steps", "20", "--launches", "1", "--out", "DIR", "--quiet")
    done = bench("run", *command, *more)
    assert done.code == 0, done.stderr
    [file] = (tmp_path / "DIR").glob("runs/*/launches.csv")
    [row] = Run(0, "", "", file.parent).rows()
    assert (row["status"], row["batch_size"], row["args"]) == ("ok", "16", "--bs {batch_size}")
    assert (row["warmup_steps_done"], row["global_batch"]) == ("20", "32")
    assert int(row["window_steps"]) + int(row["apart_steps"]) == 200
    assert int(row["apart_steps"]) in (3, 4)  # 62 steps in an epoch
    assert row["command"].endswith("--launches 1 -- --bs {batch_size}")


def test_a_module_and_its_arguments_after_two_dashes(bench: Any, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "package")
    (tmp_path / "package" / "train.py").write_text("import sys\nassert sys.argv[1:] == ['--x', 'a b'], sys.argv\n"
                                                   "sys.path.insert(0, 'package')\nfrom . import gan\n")  # fmt: skip
    done = bench("run", "--script", "package.train", "--as-module", "--gpus", "1", *BRIEF, "--", "--x", "a b")
    [row] = done.rows()
    assert (row["status"], row["reason"], row["workload"]) == ("ok", "", "module=package.train")
    assert (row["global_batch"], row["args"]) == ("50", "--x 'a b'")


# -- what does not ---------------------------------------------------------------------------------------------------

FAILURES = {
    "short": "ScriptError: the script ended (exit code 0) after 17 steps; 5 of warm-up and 30 measured are needed: "
    "lengthen it with --args, or lower --steps",
    "exits": "ScriptError: the script ended (exit code 3) after 2 steps; 5 of warm-up and 30 measured are needed",
    "arguments": "ScriptError: the script ended (exit code 2) without training: no DataLoader, backward pass or",
    "raises": "step 10: ValueError: the loss has left the building",
    "by-hand": "ScriptError: the script ended (exit code 0), and no optimizer step was seen in 6 batches and 6 backward "
    "passes: the script's optimizer is not torch's; add `from stepbench import step; step(samples=…)` at the end of",
    "endless": "ScriptError: no optimizer step was seen in 351 batches and 351 backward passes",
    "spawns": "RuntimeError: the script starts its own ranks (mp.spawn); bench starts them: let it read RANK, LOCAL_RANK",
    "one-rank": "ranks disagree: rank 0 is at step 3, rank 1 at 0",
    "unlike": "the replicas are not equal after the window: rank 0 and rank 1 differ in weight, bias",
}


@pytest.fixture(scope="module")
def failed(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    words = [word for way in FAILURES for word in ("--args", way)]
    return run_bench(
        tmp_path_factory.mktemp("failed"),
        *("run", "--script", str(SCRIPTS / "fails.py"), *words, "--gpus", "2", *BRIEF, "--hang-timeout", "2"),
    )


@pytest.mark.parametrize("way", FAILURES)
def test_a_script_that_cannot_be_measured_says_why(failed: Run, way: str) -> None:
    [row] = [row for row in failed.rows() if row["args"] == way]
    assert row["status"] == ("invalid" if way == "unlike" else "crashed")
    assert FAILURES[way][:200] in row["reason"]
    assert failed.code == 5
    assert (row["samples_per_s"] == "") == (way != "unlike")


def test_variables_that_the_launch_server_ignores_are_told_and_torchrun_heeds_them(bench: Any) -> None:
    script = ("run", "--script", str(SCRIPTS / "early_variable.py"), "--gpus", "1", "--samples-per-step", "8", *BRIEF)
    [warm] = bench(*script).rows()
    assert warm["num_threads"] == "1"
    assert warm["not_as_asked"].startswith("the script sets OMP_NUM_THREADS=2 before it imports torch")
    assert "use --launcher torchrun" in warm["not_as_asked"]
    [cold] = bench(*script, "--launcher", "torchrun").rows()
    assert (cold["status"], cold["num_threads"]) == ("ok", "2")
    assert cold["not_as_asked"] == "OpenMP threads: 2, not 1 as asked"


def test_a_run_is_resumed_unless_the_script_has_changed(bench: Any, tmp_path: Path) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    words = ("run", "--script", "scripts/gan.py", "--gpus", "1", "--device", "cpu", "--steps", "5", "--quiet")
    first = bench(*words, "--launches", "2")
    assert (first.code, [row["status"] for row in first.rows()]) == (0, ["ok", "ok"]), first.stderr
    assert len({row["code_key"] for row in first.rows()}) == 1
    again = bench("run", "--resume", "latest", "--quiet")
    assert (again.code, len(again.rows())) == (0, 2), again.stderr
    with (tmp_path / "scripts" / "gan.py").open("a") as file:
        file.write("# changed\n")
    changed = bench("run", "--resume", "latest", "--quiet")
    assert changed.code == 4
    assert "gan.py" in changed.stderr
