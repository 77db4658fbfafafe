"""``bench lock`` on real ranks: counts equal closed formulas, and habits of users are found with the right words."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import in_process
import pytest
from command_line import Run, environment, run_bench

HELPERS = Path(__file__).parents[1] / "helpers"
# Of Net in habits.py: three blocks of two linear layers, and a head.
BLOCKS, HEAD = 3 * (32 * 64 + 64 + 64 * 32 + 32), 32 * 8 + 8
P = 4 * (BLOCKS + HEAD)
PARAMETERS = 3 * 4 + 2
SUITE = """
[protocol]
launches = 1
steps = 2
warmup_steps = 3
[[matrix]]
workload = "habits.py:Plain"
strategy = ["single", "ddp", "ddp:hook=bf16", "fsdp", "fsdp:reshard=off"]
gpus = 2
device = "cpu"
[[matrix]]
workload = "habits.py:Plain"
strategy = ["ddp", "fsdp:replicate=2"]
gpus = 4
device = "cpu"
[[matrix]]
workload = "habits.py:Plain"
strategy = ["ddp", "fsdp"]
gpus = 2
device = "cpu"
grad_accum_steps = 2
[[matrix]]
workload = "habits.py:Plain"
strategy = "fsdp"
gpus = 2
device = "cpu"
activation_checkpointing = "full"
"""
# Cases of a user, of which each has one habit.
HABITS = """
[[matrix]]
workload = ["habits.py:Logs", "habits.py:Contiguous", "habits.py:Keeps", "habits.py:Unfused", "habits.py:Buffered"]
gpus = 2
device = "cpu"
[[matrix]]
workload = ["habits.py:LostCheckpointing", "habits.py:ToNumpy", "habits.py:Plain", "habits.py:ToHost"]
gpus = 2
device = "cpu"
[[matrix]]
workload = "habits.py:WideSoftmax"
gpus = 2
device = "cpu"
precision = "bf16"
[[matrix]]
workload = "habits.py:LeftOut"
strategy = "fsdp"
gpus = 2
device = "cpu"
[[matrix]]
script = "habits_script.py"
args = ["find-unused", "no-sync"]
gpus = 2
device = "cpu"
"""
# Some of them, for what any case shows.
FEW_HABITS = """
[[matrix]]
workload = ["habits.py:Logs", "habits.py:Plain", "habits.py:ToHost"]
gpus = 2
device = "cpu"
[[matrix]]
script = "habits_script.py"
args = "no-sync"
gpus = 2
device = "cpu"
"""
SAID = {
    "logs": "+1 wait for item in forward",
    "contiguous": "+6 clone float32 in forward",
    "keeps": "memory: kept after the step 0 B → 256 B",
    "unfused": "_foreach_addcdiv_ float32",
    "buffered": "+1 broadcast ×2 float32 in forward",
    "lostcheckpointing": "activations: blocks.0 0 B → 4 KiB",
    "tonumpy": "not counted in full: +1 what follows on Tensor.numpy, outside of torch",
    "widesoftmax": "+3 _softmax float32",
    "leftout": "activations: outside of layers 1.254 KiB → 6.254 KiB",
    "find-unused": "+1 all-reduce ×2 int32 in backward",
    "no-sync": "+1 all-reduce ×2 float32 in backward",
}
UNSEEN = ("plain", "tohost")  # no habit, and one that only a GPU shows


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=280)


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("counts")
    shutil.copy(HELPERS / "habits.py", folder)
    (folder / "flags.py").write_text("CHANGED = False\n")
    (folder / "suite.toml").write_text(SUITE)
    return run_bench(folder, "run", "--suite", "suite.toml", "--quiet")


def one(counted: Run, strategy: str, **axes: str) -> dict[str, Any]:
    wanted = {"strategy": strategy, "gpus": "1" if strategy == "single" else "2", "grad_accum_steps": "1", **axes}
    wanted = {"activation_checkpointing": "none", **wanted}
    [row] = [row for row in counted.rows() if all(row[name] == value for name, value in wanted.items())]
    assert (row["status"], row["counts_note"]) == ("ok", ""), row["reason"]
    return row


def collectives(counted: Run, row: dict[str, Any]) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    """(part, name, type) -> (calls, bytes, bytes on the wire)."""
    found = {}
    with (counted.folder / "counts.csv").open() as stream:
        for line in csv.DictReader(stream):
            if line["launch_id"] == row["launch_id"] and line["kind"] == "collective":
                numbers = int(line["calls"]), int(line["bytes"]), int(line["wire_bytes"])
                found[line["part"], line["name"], line["type"]] = numbers
    return found


def test_ddp_reduces_each_gradient_once(counted: Run) -> None:
    expected = {("backward", "all-reduce ×2", "float32"): (1, P, P)}
    for accumulated in ("1", "2"):
        row = one(counted, "ddp", grad_accum_steps=accumulated)
        assert collectives(counted, row) == expected
        assert (row["collectives"], row["collective_bytes"], row["wire_bytes"]) == ("1", str(P), str(P))
    four = one(counted, "ddp", gpus="4")
    assert collectives(counted, four) == {("backward", "all-reduce ×4", "float32"): (1, P, 2 * 3 * P // 4)}
    half = one(counted, "ddp:hook=bf16")
    assert collectives(counted, half) == {("backward", "all-reduce ×2", "bfloat16"): (1, P // 2, P // 2)}
    assert collectives(counted, one(counted, "single")) == {}


def test_fsdp_gathers_layers_twice_and_the_root_once(counted: Run) -> None:
    gathers = {
        ("forward", "all-gather ×2", "float32"): (4, P, P // 2),
        ("backward", "all-gather ×2", "float32"): (3, 4 * BLOCKS, 2 * BLOCKS),
    }
    scatters = {("backward", "reduce-scatter ×2", "float32"): (4, P, P // 2)}
    assert collectives(counted, one(counted, "fsdp")) == gathers | scatters
    assert collectives(counted, one(counted, "fsdp", activation_checkpointing="full")) == gathers | scatters
    kept = {("forward", "all-gather ×2", "float32"): (4, P, P // 2)}
    assert collectives(counted, one(counted, "fsdp:reshard=off")) == kept | scatters


def test_hybrid_sharding_reduces_the_shards_of_replicas(counted: Run) -> None:
    found = collectives(counted, one(counted, "fsdp:replicate=2", gpus="4"))
    assert found["forward", "all-gather ×2", "float32"] == (4, P, P // 2)
    assert found["backward", "reduce-scatter ×2", "float32"] == (4, P, P // 2)
    assert found["backward", "all-reduce ×2", "float32"] == (4, P // 2, P // 2)


def test_memory_by_kind(counted: Run) -> None:
    """Adam has two numbers for each parameter, and a step of 4 bytes for each tensor."""
    for strategy, ranks in (("single", 1), ("ddp", 1), ("fsdp", 2)):
        row = one(counted, strategy)
        assert int(row["parameter_bytes"]) == P // ranks
        assert int(row["gradient_bytes"]) == P // ranks
        assert int(row["optimizer_bytes"]) == 2 * P // ranks + 4 * PARAMETERS
        assert row["buffer_bytes"] == "0"
        # Each block saves the inputs of its layers and of GELU, the first one not the batch; the head its input, the
        # loss its probabilities and a sum of weights.
        assert int(row["activation_bytes"]) == 4 * (8 * (2 * 32 + 3 * 2 * 64) + 8 * 32 + 8 * 8 + 1)
        # Parameters, their gradients and Adam's state live together at the end of the backward pass.
        assert int(row["live_peak_bytes"]) > 4 * P // ranks
        assert (row["host_waits"], row["host_copies"]) == ("0", "0")
    recomputed = one(counted, "fsdp", activation_checkpointing="full")
    # Each block keeps its input alone, and a checkpoint an empty tensor.
    assert int(recomputed["activation_bytes"]) == 4 * (2 * 8 * 32 + 8 * 32 + 8 * 8 + 1)


def test_flops_are_those_of_the_description(counted: Run) -> None:
    flops: dict[str, int] = defaultdict(int)
    with (counted.folder / "counts.csv").open() as stream:
        for line in csv.DictReader(stream):
            flops[line["launch_id"]] += int(line["flops"] or 0)
    for row in counted.rows():
        batch = 8 * int(row["grad_accum_steps"])
        assert flops[row["launch_id"]] == float(row["hardware_flops_per_sample"]) * batch


# -- locks -------------------------------------------------------------------------------------------------------------


def found(folder: Path, *words: str) -> tuple[int, dict[str, tuple[str, list[str]]]]:
    """Return the exit code, and for each habit its verdict and changes."""
    done = bench("lock", *words, "--json", "--quiet", cwd=folder)
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    names = {}
    for one in told["cases"]:
        name = one["case_id"].removeprefix("habits-py-").partition("-")[0]
        names[name if name != "habits" else one["case_id"]] = one["verdict"], one["changes"]
    return done.returncode, names


@pytest.fixture(scope="module")
def habits(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return locked(tmp_path_factory.mktemp("habits"), HABITS)


@pytest.fixture(scope="module")
def few_habits(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return locked(tmp_path_factory.mktemp("few"), FEW_HABITS)


def locked(folder: Path, suite: str) -> Path:
    """Return the folder with habits and the lock of a suite."""
    for name in ("habits.py", "habits_script.py"):
        shutil.copy(HELPERS / name, folder)
    (folder / "flags.py").write_text("CHANGED = False\n")
    (folder / "suite.toml").write_text(suite)
    code, written = found(folder, "--suite", "suite.toml")
    assert (code, {verdict for verdict, _ in written.values()}) == (0, {"new"})
    return folder


@pytest.mark.slow
def test_habits_of_users_are_found(habits: Path) -> None:
    lock = tomllib.loads((habits / "bench.lock").read_text())
    scripts = {case["axes"]["args"]: name for name, case in lock["cases"].items() if "args" in case["axes"]}
    (habits / "flags.py").write_text("CHANGED = True\n")
    try:
        code, told = found(habits, "--check")
    finally:
        (habits / "flags.py").write_text("CHANGED = False\n")
    assert code == 1
    for habit, words in SAID.items():
        verdict, lines = told[scripts.get(habit, habit)]
        assert verdict == "more", habit
        assert any(words in line for line in lines), (habit, lines)
    for habit in UNSEEN:
        assert told[habit] == ("same", [])


@pytest.mark.slow
def test_a_print_inside_of_compiled_code_is_found(habits: Path, tmp_path: Path) -> None:
    """It divides the graph of the first block, and that of each further block again."""
    words = ["--workload", "habits.py:Prints", "--device", "cpu", "--compile", "default", "--strategy", "single"]
    lock = tmp_path / "bench.lock"
    assert found(habits, *words, "--file", str(lock))[0] == 0
    (habits / "flags.py").write_text("CHANGED = True\n")
    try:
        code, told = found(habits, "--check", "--file", str(lock))
    finally:
        (habits / "flags.py").write_text("CHANGED = False\n")
    verdict, [line] = told["prints"]
    assert (code, verdict) == (1, "more")
    assert "graph break: " in line
    assert "print" in line
    assert "graphs 1 → " in line


def unchanged(folder: Path) -> None:
    before = (folder / "bench.lock").read_text()
    code, told = found(folder, "--check")
    assert (code, {key: value for key, value in told.items() if value != ("same", [])}) == (0, {})
    code, _ = found(folder, "--workload", "habits.py:Plain", "--gpus", "2", "--device", "cpu")
    assert code == 0
    assert (folder / "bench.lock").read_text() == before


def test_unchanged_code_is_the_same(few_habits: Path) -> None:
    unchanged(few_habits)


@pytest.mark.slow
def test_unchanged_code_of_every_habit_is_the_same(habits: Path) -> None:
    unchanged(habits)


def test_less_work_passes_and_is_told(few_habits: Path, tmp_path: Path) -> None:
    lock = tmp_path / "bench.lock"
    (few_habits / "flags.py").write_text("CHANGED = True\n")
    words = ["--workload", "habits.py:Logs", "--gpus", "2", "--device", "cpu", "--file", str(lock)]
    found(few_habits, *words)
    (few_habits / "flags.py").write_text("CHANGED = False\n")
    code, told = found(few_habits, "--check", "--file", str(lock))
    assert (code, told["logs"][0]) == (0, "less")
    assert "-1 wait for item in forward" in told["logs"][1]


def test_what_cannot_be_compared(few_habits: Path, tmp_path: Path) -> None:
    lock, text = tmp_path / "bench.lock", (few_habits / "bench.lock").read_text()
    version = tomllib.loads(text)["torch"]

    def said(changed: str, *words: str) -> tuple[int, str]:
        lock.write_text(changed)
        done = bench("lock", "--check", "--quiet", "--file", str(lock), *words, cwd=few_habits)
        return done.returncode, done.stderr + done.stdout

    other = text.replace(f'torch = "{version}"', 'torch = "1.0.0"')
    code, words = said(other)
    assert (code, f"is of torch 1.0.0, and torch {version} is installed" in words) == (4, True)
    plain = ["--workload", "habits.py:Plain", "--gpus", "2", "--device", "cpu"]
    assert said(other, "--any-torch", *plain)[0] == 0
    assert said(text.replace("counting = 1", "counting = 0"))[0] == 4
    code, words = said(text, "--workload", "habits.py:Logs", "--strategy", "fsdp", "--gpus", "2", "--device", "cpu")
    assert (code, "does not have this case; add it with bench lock" in words) == (4, True)
    one = tomllib.loads(text)["cases"]
    gone = next(name for name in one if "plain" in name)
    lines = text[: text.index("[cases.")] + text[text.index(f"[cases.{gone}") :].split("\n[cases.habits-py-to")[0]
    code, words = said(lines.replace("habits.py:Plain", "habits.py:Gone"))
    assert (code, "a name of a case that follows from its axes" in words) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to count. Say what: bench lock --workload NAME"),
        (["--check", "--update"], "--check compares with the lock, and --update writes it"),
        (["--any-torch", "--workload", "mlp"], "--any-torch has no effect without --check"),
        (["--update", "--workload", "mlp"], "--update counts all cases of the lock"),
        (["--update"], "there is no lock bench.lock to update"),
        (["--steps", "3"], "No such option"),
    ],
)
def test_wrong_options(tmp_path: Path, words: list[str], said: str) -> None:
    done = in_process.bench(tmp_path, "lock", *words)
    assert done.code == 2
    assert said in " ".join(done.err.split())


# -- fake ranks --------------------------------------------------------------------------------------------------------

FAKE = (
    ("--strategy", "ddp,ddp:hook=bf16,fsdp,fsdp:reshard=off", "--fake-ranks", "2"),
    ("--strategy", "ddp,fsdp:replicate=2,fsdp", "--fake-ranks", "4,1024"),
    ("--strategy", "ddp,fsdp", "--fake-ranks", "2", "--grad-accum-steps", "2"),
)
SAME_GROUPS = ("collectives", "collective_bytes", "flops", "memory", "activations")


@pytest.fixture(scope="module")
def fake(launching: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    shutil.copy(HELPERS / "habits.py", folder)
    (folder / "flags.py").write_text("CHANGED = False\n")
    for words in FAKE:
        code, _ = found(folder, "--workload", "habits.py:Plain", *words)
        assert code == 0
    return folder


def numbers_of(folder: Path, ranks: int, strategy: str, accumulated: int = 1) -> dict[tuple[str, str, str], Any]:
    """Return what the lock has for a case of fake ranks, by (part, group, name)."""
    wanted = {"fake_ranks": ranks, "strategy": strategy, **({"grad_accum_steps": 2} if accumulated == 2 else {})}
    cases = tomllib.loads((folder / "bench.lock").read_text())["cases"].values()
    axes = [
        {name: value for name, value in one["axes"].items() if name in (*wanted, "grad_accum_steps")} for one in cases
    ]
    [case] = [one for one, its in zip(cases, axes, strict=True) if its == wanted]
    tables = {part: groups for part, groups in case.items() if part != "axes"}
    return {(p, g, name): n for p, groups in tables.items() for g, own in groups.items() for name, n in own.items()}


def counted_numbers(counted: Run, row: dict[str, Any]) -> dict[tuple[str, str, str], int]:
    """Return the same for real ranks, from counts.csv."""
    fields = {
        "operation": (("operations", "calls"),),
        "collective": (("collectives", "calls"), ("collective_bytes", "bytes")),
        "memory": (("memory", "bytes"),),
        "activation": (("activations", "bytes"),),
        "flops": (("flops", "flops"),),
    }
    numbers = {}
    with (counted.folder / "counts.csv").open() as stream:
        for line in csv.DictReader(stream):
            name = f"{line['name']} {line['type']}".strip() or "outside of layers"
            part = "step" if line["kind"] in ("memory", "activation") else line["part"]
            for group, field in fields.get(line["kind"], ()) if line["launch_id"] == row["launch_id"] else ():
                if int(line[field] or 0):
                    numbers[part, group, "all" if group == "flops" else name] = int(line[field])
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "ranks", "accumulated"),
    [
        *[("ddp", 2, 1), ("ddp", 2, 2), ("ddp:hook=bf16", 2, 1), ("ddp", 4, 1)],
        *[("fsdp", 2, 1), ("fsdp", 2, 2), ("fsdp:reshard=off", 2, 1), ("fsdp:replicate=2", 4, 1)],
    ],
)
def test_fake_ranks_count_as_real_ones(counted: Run, fake: Path, strategy: str, ranks: int, accumulated: int) -> None:
    real = counted_numbers(counted, one(counted, strategy, gpus=str(ranks), grad_accum_steps=str(accumulated)))
    there = numbers_of(fake, ranks, strategy, accumulated)
    peak = ("step", "memory", "peak of live tensors")  # of real ranks it depends on time

    def same(numbers: dict[tuple[str, str, str], Any]) -> dict[tuple[str, str, str], Any]:
        return {key: number for key, number in numbers.items() if key[1] in SAME_GROUPS and key != peak}

    assert same(there) == same(real)
    assert any(group == "collective_bytes" for _, group, _ in there)
    differ = {
        name
        for part, group, name in {*real, *there}
        if group == "operations" and real.get((part, group, name)) != there.get((part, group, name))
    }
    # Gloo copies a rank's part of what it has reduced; DDP's reducer multiplies where a hook in Python copies and divides.
    assert differ <= ({"copy_ float32"} if "fsdp" in strategy else {"copy_ float32", "mul float32", "div_ float32"})


@pytest.mark.slow
def test_a_thousand_fake_ranks(fake: Path) -> None:
    """FSDP gives each rank of 1,024 one row of a tensor at most, and pads what it gathers to a row for each."""
    ranks = 1024
    block, head = ranks * (32 + 1 + 64 + 1), ranks * (32 + 1)
    there = numbers_of(fake, ranks, "fsdp")
    assert there["forward", "collective_bytes", "all-gather ×1024 float32"] == 4 * (3 * block + head)
    assert there["backward", "collective_bytes", "all-gather ×1024 float32"] == 4 * 3 * block
    assert there["backward", "collective_bytes", "reduce-scatter ×1024 float32"] == 4 * (3 * block + head)
    assert there["step", "memory", "parameters"] == 4 * (3 * block + head) // ranks
    assert numbers_of(fake, ranks, "ddp")["backward", "collective_bytes", "all-reduce ×1024 float32"] == P


@pytest.mark.slow
def test_a_habit_shows_with_fake_ranks(fake: Path) -> None:
    before = (fake / "bench.lock").read_text()
    assert found(fake, "--check")[0] == 0
    words = ["--workload", "habits.py:LeftOut", "--strategy", "fsdp", "--fake-ranks", "64"]
    assert found(fake, *words)[0] == 0
    (fake / "flags.py").write_text("CHANGED = True\n")
    try:
        code, told = found(fake, "--check", *words)
    finally:
        (fake / "flags.py").write_text("CHANGED = False\n")
        (fake / "bench.lock").write_text(before)
    verdict, lines = told["leftout"]
    assert (code, verdict) == (1, "more")
    assert any("all-gather ×64 float32" in line for line in lines), lines


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpus", "2"), "--fake-ranks is the number of ranks, in one process on the CPU. Leave --gpus out"),
        (("--device", "cuda"), "Leave --device out, or --fake-ranks"),
        (("--scaling", "strong"), "Leave --scaling out"),
        (("--strategy", "single"), "single has no process group, and fake ranks are one; use ddp or fsdp"),
        (("--compile", "default"), "use real ranks with --compile"),
    ],
)
def test_what_fake_ranks_exclude(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = in_process.bench(tmp_path, "lock", "--workload", "mlp", "--strategy", "ddp", "--fake-ranks", "4", *words)
    assert done.code in (2, 5)
    assert said in " ".join((done.out + done.err).split())


def test_times_are_not_those_of_fake_ranks(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text('[[matrix]]\nworkload = "mlp"\nfake_ranks = 4\n')
    for words in (("--fake-ranks", "4"), ("--suite", "suite.toml")):
        assert in_process.bench(tmp_path, "run", "--workload", "mlp", *words).code == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "suite.toml"]
