"""``bench lock``: counts the work of a training step, and compares it with a lock."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from bench import interrupts
from bench.cli.console import say
from bench.cli.shared_options import Given, with_lock_options
from bench.errors import UsageError

FILE = Path("bench.lock")


@with_lock_options
def lock(
    given: Given,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the lock instead of writing it: exit code 1 for more work.")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Count all cases of the lock anew, and write them.")] = False,
    file: Annotated[Path, typer.Option("--file", metavar="FILE", help="The lock.")] = FILE,
    any_torch: Annotated[
        bool,
        typer.Option("--any-torch", help="With --check: compare what does not depend on the version of torch."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, only warnings and the result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of words.")] = False,
) -> int:
    """Count the work of one training step, and tell whether it does more than a file says.

    Counts are exact and the same on a busy machine, so that one launch is enough. Options choose the cases; with
    --check or --update alone they are those of the lock.
    """
    from bench.api.locks import checked, lock_request, written
    from bench.report.format import SafeConsole
    from bench.report.progress import observer

    chosen = {name: value for name, value in given.items() if value not in (None, False)}
    if check and update:
        raise UsageError("--check compares with the lock, and --update writes it", hint="Leave one of them out.")
    if any_torch and not check:
        raise UsageError("--any-torch has no effect without --check", option="--any-torch", hint="Add --check.")
    if update and chosen:
        raise UsageError(
            "--update counts all cases of the lock, so it takes no other cases",
            option="--update",
            hint="Leave --update out to add these cases or to count them anew.",
        )
    if not (chosen or check or update):
        raise UsageError(
            "nothing to count",
            hint="Say what: bench lock --workload NAME --strategy ddp; or add --check, or --update.",
        )
    progress = observer(SafeConsole(stderr=True), quiet)
    with interrupts.deferred(), contextlib.closing(progress):
        make = checked if check else written
        result = make(file, lock_request(chosen), progress, any_torch)
    if as_json:
        found = [{"case_id": one.case_id, "verdict": one.verdict, "changes": list(one.lines)} for one in result.found]
        say(json.dumps({"file": str(file), "exit_code": result.exit_code, "cases": found}), on_stdout=True)
    else:
        say(result.text, on_stdout=True)
    return result.exit_code
