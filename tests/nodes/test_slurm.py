"""Runs as jobs of Slurm: the script, and what Slurm says of a job. ``tests/end_to_end/test_slurm.py`` has a real Slurm."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from pathlib import Path

import in_process
import pytest
import typer

from bench.cli.app import make
from bench.errors import UsageError
from bench.nodes.slurm import Job, State, options_of, parsed, script

WORDS = ("--workload=gpt-124m", "--gpus=16")
JOB = Job(WORDS, 2, 8, Path("/shared/results"), options={"partition": "gpu", "account": "me"})
GOLDEN = """\
#!/bin/bash
#SBATCH --job-name=stepbench
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --partition=gpu
#SBATCH --account=me
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --output=/shared/results/slurm/%j.log
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --no-requeue
set -euo pipefail
export STEPBENCH_TOKEN=$(head -c 16 /dev/urandom | base64)
export STEPBENCH_SLURM_LOG=/shared/results/slurm/"$SLURM_JOB_ID.log"
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=$(scontrol --oneliner show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
port=$((29500 + SLURM_JOB_ID % 1000))
out=/shared/results/slurm/"$SLURM_JOB_ID"
run=(--workload=gpt-124m --gpus=16)
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -d "$out/runs" ]; then run=(--resume latest); fi
exec srun --export=ALL --kill-on-bad-exit=0 --cpu-bind=none -- bench run "${run[@]}" --out "$out" --rdzv-endpoint "$first:$port"
"""
SRUN = """#!/bin/bash
printf "%s\\0" "$@" > words
if [ "${ROWS:-}" ]; then printf "%s" "$ROWS" >> "$CSV"; fi
exit "${CODE:-0}"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = requeue ]; then echo "$@" > requeued; exit; fi
if [ "$2" = hostnames ]; then printf 'n7\\nn8\\n'; else echo "NodeName=$4 NodeAddr=10.0.0.7 NodeHostName=$4"; fi
"""
COMMENT, QUOTED = "a=b c#'\"\\$", """"a=b c#'\\"\\\\$\""""
HOSTILE = (
    "a b",
    "it's",
    'say "x"',
    "$(touch hacked)",
    "`touch hacked`",
    "a;touch hacked",
    "#no",
    "a\\b",
    "*",
    "-x",
    "--",
    "~",
    "{a,b}",
    "$HOME",
    "!!",
    "a|b&c>d",
    "[red]a[b]",
    "ü→",
)
UNPRINTABLE = ("two\nlines", "a\rb", "bell\x07", "a\0b", "\u2028", "\udcff")
READ_HERE = ("nnodes", "nproc_per_node", "node_rank", "rdzv_endpoint", "scheduler")  # numbers, and what the script sets
OF_SLURM = ("slurm_option", "module", "setup", "container_image", "resume")


def test_the_script_is_a_function_of_the_job() -> None:
    assert script(JOB) == GOLDEN


def test_what_a_job_may_have_more() -> None:
    job = dataclasses.replace(
        JOB,
        options={"gres": "gpu:a100:4", "time": "02:00:00"},
        modules=("cuda/12.4",),
        setup="/home/me/env.sh",
        container="/images/torch.sqsh",
        wrapper=("numactl", "--localalloc"),
        requeue=True,
        notice_s=60,
    )
    lines = script(job).splitlines()
    for line in (
        "#SBATCH --gres=gpu:a100:4",
        "#SBATCH --time=02:00:00",
        "#SBATCH --requeue",
        "#SBATCH --signal=TERM@60",
    ):
        assert line in lines
    assert not any("gpus-per-node" in line for line in lines)
    at = [lines.index(line) for line in ("set -euo pipefail", "module load cuda/12.4", ". /home/me/env.sh")]
    assert at == sorted(at)
    assert (
        "srun --export=ALL --kill-on-bad-exit=0 --cpu-bind=none --container-image=/images/torch.sqsh -- numactl --localalloc bench run"
        in script(job)
    )


def ran(folder: Path, text: str, **variables: str) -> list[str]:
    """Run a script with a srun that writes its words, and return them."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text(SCONTROL)
    (tools / "module").write_text('#!/bin/bash\nprintf "%s\\0" "$@" >> modules\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    given = {"SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "n[7-8]", **variables}
    path = f"{tools}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env={**given, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == int(variables.get("CODE", "0")), done.stderr
    (folder / "said").write_text(done.stderr)
    return (folder / "words").read_text().split("\0")[:-1]


@pytest.mark.parametrize("requeue", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_every_value_reaches_the_command_as_it_is(tmp_path: Path, text: str, requeue: bool) -> None:
    (tmp_path / "setup").mkdir()
    setup = tmp_path / "setup" / text
    setup.write_text("touch was-read\n")
    job = Job(
        [f"--args={text}", text],
        2,
        0,
        tmp_path / text.replace("\\", "_"),
        kept=[text],
        bench=[text],
        modules=[text],
        setup=str(setup),
        container=text,
        wrapper=[text],
        requeue=requeue,
    )
    assert ran(tmp_path, script(job)) == [
        *("--export=ALL", "--kill-on-bad-exit=0", "--cpu-bind=none", f"--container-image={text}", "--", text, text),
        *("run", f"--args={text}", text, text, "--out", f"{job.out}/slurm/42", "--rdzv-endpoint", "10.0.0.7:29542"),
    ]
    assert (tmp_path / "modules").read_text().split("\0")[:-1] == ["load", text]
    assert (tmp_path / "was-read").exists()
    assert not (tmp_path / "hacked").exists()


def options_with_a_text() -> dict[str, list[str]]:
    """Return the options of ``bench run`` that reach the script as they are given: name -> how it can be written."""
    command = typer.main.get_command(make("run"))
    run = getattr(command, "commands", {"run": command})["run"]
    parameters = {parameter.name: parameter for parameter in run.params}
    elsewhere = {"rest", "out", "wrapper", *READ_HERE, *OF_SLURM}  # what the test above has, and what is not passed on
    return {
        str(name): parameter.opts
        for name, parameter in parameters.items()
        if name not in elsewhere and not getattr(parameter, "is_flag", False)
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_every_option_of_a_run_reaches_the_command_as_it_is(tmp_path: Path, text: str) -> None:
    options = options_with_a_text()
    assert len(options) > 40
    given = [f"{flags[-1]}={text}" for name, flags in options.items() if name != "device"]
    slurm = [f"--module={text}", f"--container-image={text}", f"--wrapper=env {shlex.quote(text)}"]
    done = in_process.bench(
        tmp_path, "run", "--scheduler", "slurm", "--nnodes", "2", "--device=cpu", *given, *slurm, "--dry-run"
    )
    assert done.code == 0, done.err
    words = ran(tmp_path, done.out)
    assert f"--container-image={text}" in words
    assert words[words.index("--") + 1 : words.index("run")] == ["env", text, "bench"]
    for name, flags in options.items():
        assert {f"{flag}={'cpu' if name == 'device' else text}" for flag in flags} & set(words), name
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_no_option_takes_several_lines(tmp_path: Path, text: str) -> None:
    slurm = {name: [f"--{name.replace('_', '-')}"] for name in ("module", "setup", "container_image", "wrapper", "out")}
    for name, flags in {**options_with_a_text(), **slurm}.items():
        value = shlex.quote(text) if name == "wrapper" else text
        words = ["--scheduler", "slurm", f"{flags[-1]}={value}"] + ["--device=cpu"] * (name != "device")
        done = in_process.bench(tmp_path, "run", *words, "--dry-run")
        told = " ".join(done.err.split())
        assert done.code == 2, (name, told)
        assert "values in one line" in told or "embedded null byte" in told, (name, told)
    done = in_process.bench(tmp_path, "run", "--scheduler", "slurm", "--slurm-option", f"comment={text}", "--dry-run")
    assert (done.code, "in one line" in " ".join(done.err.split())) == (2, True), done.err
    assert list(tmp_path.iterdir()) == []


def test_options_of_slurm_that_would_break_the_script(tmp_path: Path) -> None:
    for flag, value, said in (
        ("--wrapper", "it's", "no closing quotation"),
        ("--out", "a\\b", "a folder without a backslash"),
        ("--nproc-per-node", "$(touch hacked)", "a whole number"),
        ("--nnodes", "2;ls", "a whole number"),
    ):
        done = in_process.bench(tmp_path, "run", "--scheduler", "slurm", f"{flag}={value}", "--dry-run")
        assert (done.code, said in " ".join(done.err.split())) == (2, True), done.err


def test_a_log_is_named_as_it_is() -> None:
    job = dataclasses.replace(JOB, out=Path('/shared/100%j "a"'))
    assert '#SBATCH --output="/shared/100%%j \\"a\\"/slurm/%j.log"\n' in script(job)


def test_a_job_that_starts_again_resumes(tmp_path: Path) -> None:
    job = Job(WORDS, 2, 0, tmp_path)
    assert "--workload=gpt-124m" in ran(tmp_path, script(job), SLURM_RESTART_COUNT="1")  # nothing was begun
    (tmp_path / "slurm" / "42" / "runs").mkdir(parents=True)
    assert "--workload=gpt-124m" in ran(tmp_path, script(job))
    again = ran(tmp_path, script(job), SLURM_RESTART_COUNT="1")
    assert again[again.index("run") + 1 : again.index("--out")] == ["--resume", "latest"]


def test_the_script_of_a_job_goes_on_with_its_run_in_another_job(tmp_path: Path) -> None:
    text = script(Job(WORDS, 2, 0, tmp_path), of="7")
    assert "--workload=gpt-124m" in ran(tmp_path, text)
    (tmp_path / "slurm" / "7" / "runs").mkdir(parents=True)
    assert ran(tmp_path, text)[-6:] == [
        *("--resume", "latest", "--out", f"{tmp_path}/slurm/7", "--rdzv-endpoint", "10.0.0.7:29542"),
    ]


@pytest.mark.parametrize(
    ("code", "rows", "asked", "said"),
    [
        ("143", ["ok", "interrupted"], "requeue 42", ""),
        ("143", ["crashed"], "requeue 42", ""),
        ("143", ["interrupted"], "", "not requeued; to go on: sbatch --time=LONGER"),
        ("143", [], "", "not requeued; to go on: sbatch --time=LONGER"),
        ("5", ["ok", "crashed"], "", ""),
        ("0", ["ok"], "", ""),
    ],
)
def test_a_job_asks_to_be_requeued_after_the_signal_ahead_of_its_limit(
    tmp_path: Path, code: str, rows: list[str], asked: str, said: str
) -> None:
    """If a launch has ended, so that a limit that is too short does not start it for ever."""
    run = tmp_path / "slurm" / "42" / "runs" / "a"
    run.mkdir(parents=True)
    (run / "launches.csv").write_text("run_id,status,reason\na,ok,\n")  # by an earlier start of the job
    job = Job(WORDS, 2, 0, tmp_path, requeue=True)
    more = "".join(f"a,{status},\n" for status in rows)
    ran(tmp_path, script(job), CODE=code, ROWS=more, CSV=str(run / "launches.csv"))
    told = tmp_path / "requeued"
    assert (told.read_text() if told.exists() else "") == (f"{asked}\n" if asked else "")
    assert said in (tmp_path / "said").read_text()


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_values_of_several_lines_are_refused(text: str) -> None:
    for job in (
        dataclasses.replace(JOB, words=[text]),
        dataclasses.replace(JOB, setup=text),
        dataclasses.replace(JOB, out=Path(text)),
        dataclasses.replace(JOB, modules=[text]),
        dataclasses.replace(JOB, kept=[text]),
        dataclasses.replace(JOB, bench=[text]),
        dataclasses.replace(JOB, wrapper=[text]),
        dataclasses.replace(JOB, container=text),
    ):
        with pytest.raises(UsageError, match="values in one line"):
            script(job)
    with pytest.raises(UsageError, match="in one line"):
        options_of([f"comment={text}"])


@pytest.mark.parametrize(
    "given", ["", "=x", "Partition=gpu", "a b=c", "partition;x=y", "nodes=3", "--array=1-3", "output=x"]
)
def test_options_of_sbatch_that_are_not_allowed(given: str) -> None:
    with pytest.raises(UsageError, match="--slurm-option"):
        options_of([given])


def test_options_of_sbatch() -> None:
    given = ["partition=gpu", "--time=1:00", "exclusive", "comment=a=b c"]
    assert options_of(given) == {"partition": "gpu", "time": "1:00", "exclusive": "", "comment": "a=b c"}
    quoted = script(dataclasses.replace(JOB, options={"comment": COMMENT}))
    assert f"#SBATCH --comment={QUOTED}\n" in quoted


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("JobId=3 JobState=PENDING Reason=Resources ExitCode=0:0", State("PENDING", "Resources", None)),
        ("JobId=3 JobState=RUNNING Reason=None ExitCode=0:0", State("RUNNING", "None", None)),
        ("JobId=3 JobState=COMPLETING Reason=None ExitCode=5:0", State("COMPLETING", "None", None)),
        ("JobId=3 JobState=SIGNALING Reason=None ExitCode=0:0", State("SIGNALING", "None", None)),
        ("JobId=3 JobState=REQUEUED Reason=None ExitCode=0:0", State("REQUEUED", "None", None)),
        ("JobId=3 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15", State("TIMEOUT", "TimeLimit", 143)),
        ("JobId=3 JobState=COMPLETED Reason=None ExitCode=0:0", State("COMPLETED", "None", 0)),
        ("JobId=3 JobState=FAILED Reason=NonZeroExitCode ExitCode=5:0", State("FAILED", "NonZeroExitCode", 5)),
        ("JobId=3 JobState=CANCELLED Reason=None ExitCode=0:15", State("CANCELLED", "None", 143)),
        ("JobId=3 JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53", State("FAILED", "JobLaunchFailure", 5)),
        ("JobId=3 JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0", State("NODE_FAIL", "NodeDown", 5)),
    ],
)
def test_states_of_jobs(line: str, expected: State) -> None:
    assert parsed(line) == expected


def test_a_job_that_never_starts_is_told() -> None:
    assert "it will never start" in State("PENDING", "PartitionNodeLimit", None).words
    assert State("RUNNING", "None", None).words == "running"


def test_dry_run_prints_the_script_and_starts_nothing(tmp_path: Path) -> None:
    words = ["--workload", "gpt-nano", "--gpus", "4", "--device", "cpu", "--launches", "2", "--nproc-per-node", "2"]
    done = in_process.bench(tmp_path, "run", "--scheduler", "slurm", "--nodes", "2", *words, "--dry-run")
    assert done.code == 0
    assert "#SBATCH --nodes=2" in done.out
    assert "gpus-per-node" not in done.out
    assert "run=(--workload=gpt-nano --gpus=4 --device=cpu --launches=2)\n" in done.out
    assert '"${run[@]}" --nproc-per-node=2 --out "$out"' in done.out  # a run that is resumed needs it again
    assert list(tmp_path.iterdir()) == []
    gpus = in_process.bench(tmp_path, "run", "--scheduler", "slurm", "--nodes", "2", "--gpus", "1..16", "--dry-run").out
    assert "#SBATCH --gpus-per-node=8" in gpus
    all_ = in_process.bench(
        tmp_path, "run", "--scheduler", "slurm", "--nodes", "2", "--gpus", "1..all", "--dry-run"
    ).out
    assert "gpus-per-node" not in all_


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scheduler", "pbs"), "--scheduler: got 'pbs'; allowed: slurm"),
        (("--detach",), "--detach has no effect without --scheduler slurm"),
        (("--slurm-option", "partition=gpu"), "--slurm-option has no effect without --scheduler slurm"),
        (("--scheduler", "slurm", "--nodes", "0"), "--nnodes: got '0'"),
        (("--scheduler", "slurm", "--node-rank", "1"), "--node-rank: Slurm says it to each node"),
        (("--scheduler", "slurm", "--rdzv-endpoint", "h1"), "--rdzv-endpoint: Slurm says it to each node"),
        (("--scheduler", "slurm", "--resume", "latest"), "sbatch results/slurm/JOB.sh"),
        (("--scheduler", "slurm", "--workload", "a\nb", "--dry-run"), "values in one line"),
    ],
)
def test_wrong_options(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = in_process.bench(tmp_path, "run", *words)
    assert done.code == 2
    assert said in " ".join(done.err.split())


def test_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (["run", "--scheduler", "slurm", "--workload", "mlp"], ["attach", "7"]):
        done = in_process.bench(tmp_path, *words)
        assert (done.code, "Submit from a login node of the cluster" in done.err) == (5, True)
    assert in_process.bench(tmp_path, "attach", "7;ls").code == 2
