"""A gate on GitHub Actions: annotations, the job's summary and an output. Nothing else is needed but its variables."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.errors import shorten
from bench.report.format import xml_safe
from bench.report.gate import gate_markdown, header_lines, message, noteworthy, outcome, title
from bench.stats.verdict import Gate, Verdict

SHOWN = 10  # GitHub shows ten errors and ten warnings of a step
SUMMARY_BYTES = 1 << 20  # of a step: of more it shows nothing
LEAST_BYTES = 4096  # with less room there is no sense in a summary


def annotations(gate: Gate) -> list[str]:
    """Workflow commands, one a line: the gate's sentence as a notice, then at most SHOWN errors and as many warnings.

    Errors are what closes the gate; warnings what is undecided or missing. How many more there are is in the notice.
    """
    errors, warnings = _gate_errors(gate), _control_warnings(gate)
    for one in noteworthy(gate):
        found = errors if _is_error(one, gate) else warnings
        found.append(_command("error" if found is errors else "warning", f"{title(one)}: {one.case}", message(one)))
    more = {"errors": len(errors) - SHOWN, "warnings": len(warnings) - SHOWN}
    rest = " and ".join(f"{count} more {kind}" for kind, count in more.items() if count > 0)
    said = f"{header_lines(gate)[0]}" + (f"; {rest} are in the job's summary" if rest else "")
    return [_command("notice", "stepbench", said), *errors[:SHOWN], *warnings[:SHOWN]]


def summary(gate: Gate, limit: int = SUMMARY_BYTES) -> str:
    """Markdown of at most ``limit`` bytes; what does not fit is left out by whole lines, and told."""
    return gate_markdown(gate, limit)


def publish(gate: Gate, environ: Mapping[str, str]) -> None:
    """On GitHub Actions (GITHUB_ACTIONS is ``true``): print the annotations, append the summary, set ``verdict`` (one
    of OUTCOMES) and ``exit_code`` as outputs of the step.

    Annotations go to stderr, where GitHub reads them as well: stdout may hold JSON. What cannot be written becomes a
    warning there, for the verdict is worth more than its copies.
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
        _print(_command("warning", "stepbench", "the job's summary is full; the verdicts are not in it"))


def _gate_errors(gate: Gate) -> list[str]:
    if not gate.failed and gate.verdicts:
        return []
    return [_command("error", "stepbench", "a launch failed, or nothing could run")]


def _control_warnings(gate: Gate) -> list[str]:
    control = gate.control
    if control is None or not control.flagged:
        return []
    return [_command("warning", "control pair", f"the machine differs from itself: {control.words}")]


def _is_error(verdict: Verdict, gate: Gate) -> bool:
    strictly = verdict.verdict == "missing" and gate.rules.strict
    return verdict.fails or verdict.verdict == "incomparable" or strictly


def _command(name: str, title: str, text: str) -> str:
    """A workflow command, escaped as GitHub's own toolkit does it."""
    properties = _data(shorten(xml_safe(title), 200)).replace(":", "%3A").replace(",", "%2C")
    return f"::{name} title={properties}::{_data(shorten(xml_safe(text), 1000))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _size(file: str | None) -> int:
    """Of what earlier commands of the step have written."""
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
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        _print(f"warning: cannot write {file}: {error}")


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is full or closed
        print(text, file=sys.stderr, flush=True)
