"""A gate as JUnit XML, with a test for each case; GitLab, Jenkins, Azure and apps for GitHub show it.

It follows the schema of Windy Road (github.com/windyroad/JUnit-Schema), the strictest in use.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bench.errors import shorten
from bench.report.format import number, xml_safe
from bench.report.gate import change, header_lines, message, outcome, throughput
from bench.stats.verdict import Gate, Rules, Verdict

UNKNOWN_TIME = datetime(1970, 1, 1)


class _Test(NamedTuple):
    """A test. ``result`` is failure, error, skipped, or empty if it passed; ``kind``, ``message`` and ``text`` say why.

    ``seconds`` is the time that it took.
    """

    group: str
    name: str
    seconds: float = 0.0
    result: str = ""
    kind: str = ""
    message: str = ""
    text: str = ""


def junit(gate: Gate) -> str:
    """Return the whole document, to be written as UTF-8.

    ``slower``, ``broken``, more memory and, with ``--strict``, ``missing`` are failures. ``inconclusive`` is skipped,
    and so is ``missing`` without ``--strict``. ``incomparable`` is an error; all other cases pass. The control pair is
    a test of its own, skipped if it was flagged. If launches failed, a test named ``launches`` is an error. The time
    stamp is from the run's id, or UNKNOWN_TIME.
    """
    tests = list(_tests(gate))
    root = Element("testsuites")
    suite = SubElement(root, "testsuite", _suite(gate, tests))
    properties = SubElement(suite, "properties")
    for name, value in _properties(gate).items():
        SubElement(properties, "property", name=name, value=xml_safe(value))
    for test in tests:
        suite.append(_case(test))
    SubElement(suite, "system-out").text = _lines("\n".join(header_lines(gate)))
    SubElement(suite, "system-err")
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(gate: Gate, tests: list[_Test]) -> dict[str, str]:
    counts = Counter(test.result for test in tests)
    return {
        **{"id": "0", "name": "stepbench", "package": "stepbench", "hostname": "localhost"},
        "timestamp": _started(gate.run_id).isoformat(timespec="seconds"),
        "tests": str(len(tests)),
        **{f"{result}s": str(counts[result]) for result in ("failure", "error")},
        "skipped": str(counts["skipped"]),
        "time": _seconds(sum(map(_known, (test.seconds for test in tests)))),
    }


def _properties(gate: Gate) -> dict[str, str]:
    """Return the sides, the outcome and the rules of a gate, by name."""
    rules = {"floor": gate.rules.floor, "floor_memory": gate.rules.floor_memory, "detect": gate.rules.detect}
    sides = {"a": gate.a, "b": gate.b, "run_id": gate.run_id}
    result = {"outcome": outcome(gate), "exit_code": str(gate.exit_code)}
    shares = {name: f"{share:.6g}" for name, share in rules.items()}
    ratio = {} if gate.ratio is None else {"ratio": f"{gate.ratio:.6g}"}
    ratio |= {"so_far": gate.so_far.words} if gate.so_far else {}
    return {**sides, **result, **shares, "strict": "true" if gate.rules.strict else "false", **ratio}


def _tests(gate: Gate) -> Iterator[_Test]:
    if gate.failed or not gate.verdicts:
        why = "a launch failed, or nothing could run"
        yield _Test("stepbench.gate", "launches", 0.0, "error", "failed", why, why)
    if gate.control:
        words, flagged = gate.control.words, gate.control.flagged
        name = f"control pair: {gate.control.case}"
        yield _Test("stepbench.gate", name, 0.0, "skipped" if flagged else "", "", words, words)
    for one in gate.verdicts:
        yield _test(one, gate.rules)


def _test(verdict: Verdict, rules: Rules) -> _Test:
    result, kind = _result(verdict, rules)
    group = "stepbench." + (re.sub(r"[^\w=:-]+", "_", verdict.workload) or "case")  # Dots would separate packages.
    return _Test(group, verdict.case, verdict.seconds, result, kind, message(verdict), _text(verdict))


def _result(verdict: Verdict, rules: Rules) -> tuple[str, str]:
    """Return the element of the result, empty if the case passed, and its type, which may be empty."""
    if verdict.verdict == "incomparable":
        return "error", verdict.verdict
    if verdict.verdict in ("slower", "broken") or (verdict.verdict == "missing" and rules.strict):
        return "failure", verdict.verdict
    if verdict.memory == "more":
        return "failure", "memory"
    return ("skipped", "") if verdict.verdict in ("inconclusive", "missing") else ("", "")


def _text(verdict: Verdict) -> str:
    """Return all figures, one on each line: some tools show only this text."""
    known = {
        verdict.verdict: verdict.reason,
        "throughput, B against A": throughput(verdict),
        "samples/s": _sides(verdict.samples_per_s_a, verdict.samples_per_s_b),
        "memory, B against A": change(verdict.memory_ratio),
        "memory, MiB": _sides(verdict.memory_mib_a, verdict.memory_mib_b),
        "p, one-sided": "" if verdict.p is None else f"{verdict.p:.2g}",
        "measured in": f"{verdict.blocks} blocks, {verdict.launches} launches ({verdict.how})" if verdict.how else "",
        "smallest detectable slowdown": "" if verdict.detectable is None else f"{verdict.detectable:.1%}",
        "A": verdict.case_a or "",
        "B": verdict.case_b or "",
        "command": verdict.command or "",
    }
    return "\n".join(f"{name}: {value}" for name, value in known.items() if value)


def _sides(a: float | None, b: float | None) -> str:
    sides = {"A": a, "B": b}
    return ", ".join(f"{side} {number(value)}" for side, value in sides.items() if value is not None)


def _case(test: _Test) -> Element:
    names = {"classname": _line(test.group), "name": _line(test.name)}
    case = Element("testcase", {**names, "time": _seconds(test.seconds)})
    if test.result:
        kind = {"type": test.kind} if test.kind else {}
        SubElement(case, test.result, {**kind, "message": _line(test.message)}).text = _lines(test.text)
    return case


def _line(text: str) -> str:
    return shorten(xml_safe(text), 1000) or "?"


def _lines(text: str) -> str:
    return xml_safe(text).replace("\r\n", "\n").replace("\r", "\n")  # As an XML parser does.


def _seconds(value: float) -> str:
    """Return seconds as a decimal number without exponent, which the schema requires."""
    return f"{_known(value):.3f}"


def _known(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _started(run_id: str) -> datetime:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return UNKNOWN_TIME
