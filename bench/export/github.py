"""A gate on GitHub Actions: annotations, the job's summary and outputs of the step. Needs only GitHub's variables."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.errors import shorten
from bench.report.format import xml_safe
from bench.report.gate import gate_markdown, header_lines, message, noteworthy, outcome, title
from bench.stats.verdict import Gate, Verdict

SHOWN = 10  # GitHub shows ten errors and ten warnings of a step.
SUMMARY_BYTES = 1 << 20  # GitHub does not show a longer summary of a step.
LEAST_BYTES = 4096  # With less space left, no summary is written.


def annotations(gate: Gate) -> list[str]:
    """Return workflow commands: the gate's sentence as a notice, then at most SHOWN errors and SHOWN warnings.

    Errors are cases that fail the gate; warnings are undecided or missing ones. The notice says how many more there
    are.
    """
    errors, warnings = _gate_errors(gate), _control_warnings(gate)
    for one in noteworthy(gate):
        found = errors if _is_error(one, gate) else warnings
        found.append(_command("error" if found is errors else "warning", f"{title(one)}: {one.case}", message(one)))
    more = {"errors": len(errors) - SHOWN, "warnings": len(warnings) - SHOWN}
    rest = " and ".join(f"{count} more {kind}" for kind, count in more.items() if count > 0)
    notice = f"{header_lines(gate)[0]}" + (f"; {rest} are in the job's summary" if rest else "")
    return [_command("notice", "stepbench", notice), *errors[:SHOWN], *warnings[:SHOWN]]


def summary(gate: Gate, limit: int = SUMMARY_BYTES) -> str:
    """Return Markdown of at most ``limit`` bytes; lines that do not fit are left out, and a last line says so."""
    return gate_markdown(gate, limit)


def publish(gate: Gate, environ: Mapping[str, str]) -> None:
    """Print annotations, append the summary and set outputs of the step, if GITHUB_ACTIONS is ``true``.

    The outputs are ``verdict`` (one of OUTCOMES) and ``exit_code``. Annotations go to stderr, because stdout may be
    JSON. If a file cannot be written, a warning says so, and the exit code stays that of the gate.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        return
    _print("\n".join(annotations(gate)))
    _append(environ.get("GITHUB_OUTPUT"), f"verdict={outcome(gate)}\nexit_code={gate.exit_code}\n")
    file = environ.get("GITHUB_STEP_SUMMARY")
    room = SUMMARY_BYTES - _size(file)
    if room >= LEAST_BYTES:
        _append(file, summary(gate, room))
    else:
        _print(_command("warning", "stepbench", "the job's summary is full, so the verdicts are not in it"))


def _gate_errors(gate: Gate) -> list[str]:
    if not gate.failed and gate.verdicts:
        return []
    return [_command("error", "stepbench", "a launch failed, or nothing could run")]


def _control_warnings(gate: Gate) -> list[str]:
    control = gate.control
    if control is None or not control.flagged:
        return []
    return [_command("warning", "control pair", f"equal sides differ: {control.words}")]


def _is_error(verdict: Verdict, gate: Gate) -> bool:
    """Return whether a verdict fails the gate."""
    strictly = verdict.verdict == "missing" and gate.rules.strict
    return verdict.fails or verdict.verdict == "incomparable" or strictly


def _command(name: str, title: str, text: str) -> str:
    """Return a workflow command, escaped like in GitHub's actions/toolkit."""
    properties = _data(shorten(xml_safe(title), 200)).replace(":", "%3A").replace(",", "%2C")
    return f"::{name} title={properties}::{_data(shorten(xml_safe(text), 1000))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _size(file: str | None) -> int:
    """Return the size of a file in bytes, to which earlier commands of the step may have written; 0 if unknown."""
    try:
        return Path(file).stat().st_size if file else 0
    except (OSError, ValueError):
        return 0


def _append(file: str | None, text: str) -> None:
    if not file:
        return
    try:
        with Path(file).open("a", encoding="utf-8", newline="") as stream:
            stream.write(text)
    except (OSError, ValueError) as error:  # ValueError: the name has a zero byte.
        _print(f"warning: cannot write {file}: {error}")


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed.
        print(text, file=sys.stderr, flush=True)
