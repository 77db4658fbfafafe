"""Everything that a first GPU is to tell, in 8 minutes and without a network: what ``make gpu`` runs.

    python tests/benchmarks/gpu.py                         # on a machine with a GPU, with the Python that has torch
    python tests/benchmarks/gpu.py --device cpu --small    # the same parts on a machine without one

Writes to results/<name of the GPU>/: README.md (which parts passed, failed or were cut, and what they say),
commands.csv (every command, its exit code and time), page.html and page.md (``bench report`` of all rows), runs/ (the
rows) and logs/ (what each command printed). The exit code is 0 if all parts passed.

Each part has a limit of its own: what does not end in time is ended, and the next part begins.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Not as tests.benchmarks.gpu_parts: where another package has installed a folder "tests", that is found instead.
import gpu_wheels
import nvidia_smi
from gpu_parts import Done, Part, Setup, deadlines, parts, small
from gpu_wheels import ROOT

GRACE_S = 8.0  # for a command that is asked to end: bench run still writes its row
PAGE_S = 15.0
OUTCOMES = ("passed", "failed", "cut", "skipped")


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a part. ``outcome`` is one of OUTCOMES."""

    part: Part
    outcome: str
    done: tuple[Done, ...] = ()
    said: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(done.seconds for done in self.done)


def why_not(part: Part, setup: Setup) -> str:
    """Why a part cannot run here; empty if it can."""
    if part.gpu_only and not setup.on_gpu:
        return "needs a GPU"
    if part.beside and not shutil.which("nvidia-smi"):
        return "needs the command nvidia-smi"
    lacking = gpu_wheels.missing(part.needs)
    return gpu_wheels.how_to_bring(lacking) if lacking else ""


def judged(part: Part, done: Sequence[Done]) -> Result:
    """Passed, failed or cut, by exit codes and by what the part's own check finds."""
    wrong = [f"exit code {one.code}: {' '.join(one.words)}" for one in done if one.code not in (None, *part.allowed)]
    try:
        found = part.check(done)
        said, wrong = found.said, [*wrong, *found.wrong]
    except Exception as error:  # what a command printed is not what was expected; the other parts go on
        said, wrong = [], [*wrong, f"cannot be judged: {type(error).__name__}: {error}"]
    cut = len(done) < len(part.commands) or any(one.code is None for one in done)
    return Result(part, "failed" if wrong else "cut" if cut else "passed", tuple(done), tuple(said), tuple(wrong))


def run_part(part: Part, setup: Setup, deadline: float) -> Result:
    """Run its commands one after the other until ``deadline``, a time of ``time.monotonic``."""
    if reason := why_not(part, setup):
        return Result(part, "skipped", said=(reason,))
    done: list[Done] = []
    for number, words in enumerate(part.commands, 1):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        log = setup.out / "logs" / f"{part.name}-{number}"
        smi = log.with_suffix(".smi")
        with nvidia_smi.Beside(smi) if part.beside else contextlib.nullcontext():
            one = run_command(words, log, left)
        done.append(dataclasses.replace(one, beside=smi.read_text(errors="replace")) if part.beside else one)
    return judged(part, done)


def run_command(words: tuple[str, ...], log: Path, limit_s: float) -> Done:
    """Run a command in a session of its own, its output in ``log``.out and .err; past the limit end all of it."""
    began = time.monotonic()
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(words, stdout=stdout, stderr=stderr, cwd=ROOT, start_new_session=True)
        code: int | None = None
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                _end(process)
    return Done(words, code, time.monotonic() - began, out.read_text(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the command and its children to end, and see to it that none is left."""
    from launch.processes import descendants, end

    below = descendants(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    process.kill()
    process.wait()
    end(lambda: [child for child in below if child.is_running()])


def run_all(setup: Setup, chosen: Sequence[Part]) -> Iterator[Result]:
    """The results of the parts as they end."""
    began = time.monotonic()
    for part, deadline in zip(chosen, deadlines([part.limit_s for part in chosen], setup.patience), strict=True):
        yield run_part(part, setup, began + deadline)


def write_commands(results: Sequence[Result], file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("part", "exit_code", "seconds", "command"))
        for result in results:
            for done in result.done:
                code = "cut" if done.code is None else done.code
                writer.writerow((result.part.name, code, f"{done.seconds:.1f}", " ".join(done.words)))


def summary(results: Sequence[Result], machine: str, seconds: float) -> str:
    """The README.md of the folder."""
    counts = ", ".join(
        f"{count} {name}" for name in OUTCOMES if (count := sum(result.outcome == name for result in results))
    )
    lines = [
        f"# {machine}",
        "",
        f"{counts}, in {seconds:.0f} s. `make gpu` writes this; commands.csv has the commands.",
    ]
    lines += ["", "| part | what it is | outcome | seconds |", "|---|---|---|---|"]
    lines += [f"| {r.part.name} | {r.part.about} | {r.outcome} | {r.seconds:.0f} |" for r in results]
    for result in results:
        if result.said or result.wrong:
            lines += ["", f"## {result.part.name}: {result.outcome}", ""]
            lines += [f"- wrong: {line}" for line in result.wrong]
            lines += [f"- {line}" for line in result.said]
    return "\n".join(lines) + "\n"


def machine_name(device: str) -> tuple[str, int, str]:
    """(the device's name, how many of it there are, one line about the machine), by torch in a process of its own."""
    text = (
        "import torch, torchvision, platform\n"
        f"n = torch.cuda.device_count() if {device!r} == 'cuda' else 0\n"
        "print(torch.cuda.get_device_name(0) if n else platform.machine() + ' CPU')\n"
        "print(n)\n"
        "print('Python', platform.python_version(), 'torch', torch.__version__, 'torchvision', torchvision.__version__)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", text], capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        sys.exit(f"{sys.executable} cannot import torch and torchvision: {last[0]}")
    name, count, about = done.stdout.splitlines()[-3:]
    return name, int(count), about


def prepared(args: argparse.Namespace) -> tuple[Setup, str]:
    """Where and how large, and the machine in a line; ends the program if it lacks what all parts need."""
    sys.path.append(str(ROOT))
    gpu_wheels.equip()
    if lacking := gpu_wheels.missing(gpu_wheels.BASE):
        sys.exit(gpu_wheels.how_to_bring(lacking))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]), str(gpu_wheels.SITE)]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    name, count, about = machine_name(args.device)
    if args.device == "cuda" and not count:
        sys.exit("torch sees no GPU here; `--device cpu --small` runs the same parts on the CPU.")
    out = args.out or ROOT / "results" / "-".join(name.split())
    make = small if args.small else Setup
    return make(args.device, args.gpus or count or 2, out.resolve()), f"{name}: {about}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--gpus", type=int, help="how many, by default all; ranks where the device is cpu")
    parser.add_argument("--small", action="store_true", help="small models and short windows, and six times the limits")
    parser.add_argument("--parts", help="only these; comma list")
    parser.add_argument("--out", type=Path, help="folder of the results, by default results/<name of the GPU>")
    args = parser.parse_args()
    setup, machine = prepared(args)
    chosen = [part for part in parts(setup) if not args.parts or part.name in args.parts.split(",")]
    (setup.out / "logs").mkdir(parents=True, exist_ok=True)
    print(f"{machine}\nresults: {setup.out}", flush=True)
    results: list[Result] = []
    before = runs_in(setup.out)
    began = time.monotonic()
    try:
        for result in run_all(setup, chosen):
            results.append(result)
            print(f"\n{result.part.name}: {result.outcome}, {result.seconds:.0f} s", flush=True)
            for line in (*(f"wrong: {line}" for line in result.wrong), *result.said):
                print(f"  {line}", flush=True)
    finally:
        (setup.out / "README.md").write_text(summary(results, machine, time.monotonic() - began))
        write_commands(results, setup.out / "commands.csv")
    page(sorted(runs_in(setup.out) - before), setup)
    return 0 if all(result.outcome == "passed" for result in results) else 1


def runs_in(out: Path) -> set[str]:
    return {file.parent.name for file in out.glob("runs/*/launches.csv")}


def page(runs: Sequence[str], setup: Setup) -> None:
    """``bench report`` of the runs; words if it cannot be made."""
    out = setup.out
    if lacking := gpu_wheels.missing(gpu_wheels.PAGE):
        print(f"\nno page: {gpu_wheels.how_to_bring(lacking)}")
        return
    if not runs:
        return
    files = ("--html", str(out / "page.html"), "--md", str(out / "page.md"), "--out", str(out))
    words = (sys.executable, "-P", "-m", "bench", "report", *runs, *files)
    done = run_command(words, out / "logs" / "page", PAGE_S * setup.patience)
    print(f"\npage: {out / 'page.html'}" if done.code == 0 else f"\nno page: see {out / 'logs' / 'page.err'}")


if __name__ == "__main__":
    sys.exit(main())
