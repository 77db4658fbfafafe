"""JUnit XML by the rules of Windy Road's schema, read by a parser that forgives nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from made_up_gates import (
    BROKEN,
    CONTROL,
    FLAGGED,
    GATE,
    GOOD,
    HOSTILE,
    MISSING,
    MORE,
    ODD,
    SAME,
    SLOWER,
    UNDECIDED,
    UNLIKE,
)

from bench.export.junit import junit
from bench.stats.verdict import Gate, Rules, Verdict

DECIMAL = re.compile(r"\d+(\.\d+)?")
WHOLE = re.compile(r"\d+")
WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
TOKEN = re.compile(r"\S+( \S+)*")  # xs:token: no line ends, no blanks but single ones inside
TEXT = re.compile(r".*", re.DOTALL)
SUITE = {
    **dict.fromkeys(("name", "hostname", "package"), TOKEN),
    **dict.fromkeys(("tests", "failures", "errors", "skipped", "id"), WHOLE),
    **{"timestamp": WHEN, "time": DECIMAL},
}
RESULTS = {
    "failure": {"message": TEXT, "type": TEXT},
    "error": {"message": TEXT, "type": TEXT},
    "skipped": {"message": TEXT},  # the schema leaves it open; this is what every reader knows
}


def attributes(element: Element, wanted: dict[str, re.Pattern[str]]) -> None:
    assert element.attrib.keys() == wanted.keys(), element.tag
    for name, value in element.attrib.items():
        assert wanted[name].fullmatch(value), (element.tag, name, value)


def checked(text: str) -> Element:
    """The one suite of a document, which follows the schema in elements, their order, attributes and counts."""
    root = ElementTree.fromstring(text.encode())
    assert (root.tag, root.attrib) == ("testsuites", {})
    (suite,) = root
    assert suite.tag == "testsuite"
    attributes(suite, SUITE)
    tags = [child.tag for child in suite]
    cases = suite.findall("testcase")
    assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
    for one in suite[0]:
        assert one.tag == "property"
        attributes(one, {"name": TOKEN, "value": TEXT})
    for case in cases:
        attributes(case, {"name": TOKEN, "classname": TOKEN, "time": DECIMAL})
        assert len(case) <= 1
        for result in case:
            attributes(result, RESULTS[result.tag])
            assert len(result) == 0
    counts = {"tests": len(cases), **{f"{kind}s": len(suite.findall(f"*/{kind}")) for kind in ("failure", "error")}}
    counts["skipped"] = len(suite.findall("*/skipped"))
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    return suite


def results(gate: Gate) -> dict[str, tuple[str, str | None]]:
    """Name of a test -> its result and the type of that; ``passed`` if there is none."""
    cases = checked(junit(gate)).findall("testcase")
    return {
        case.attrib["name"]: (case[0].tag, case[0].get("type")) if len(case) else ("passed", None) for case in cases
    }


def test_the_whole_document(golden: Callable[[str, str], None]) -> None:
    text = junit(GATE)
    checked(text)
    golden("gate.xml", text)


def test_each_verdict_has_its_result() -> None:
    gate = dataclasses.replace(GATE, verdicts=(*GATE.verdicts, UNLIKE))
    assert results(gate) == {
        "control pair: gpt-nano-single-x1": ("passed", None),
        "gpt-nano-single-x1": ("passed", None),
        "gpt-nano-ddp-x2": ("failure", "slower"),
        "bert-ddp-x2": ("passed", None),
        "resnet18-ddp-x2": ("skipped", None),
        "resnet18-fsdp-x2": ("failure", "broken"),
        "mlp-fsdp-x2": ("failure", "memory"),
        "dlrm-ddp-x2": ("skipped", None),
        "llama-ddp-x2": ("error", "incomparable"),
    }


@pytest.mark.parametrize(
    ("verdict", "strict", "result"),
    [
        (MISSING, True, ("failure", "missing")),
        (MISSING, False, ("skipped", None)),
        (UNDECIDED, True, ("skipped", None)),
        (dataclasses.replace(UNDECIDED, memory="more"), False, ("failure", "memory")),
        (dataclasses.replace(SLOWER, memory="more"), False, ("failure", "slower")),
        (dataclasses.replace(UNLIKE, memory="more"), False, ("error", "incomparable")),
    ],
)  # fmt: skip
def test_rules_and_memory(verdict: Verdict, strict: bool, result: tuple[str, str | None]) -> None:
    assert results(Gate("A", "B", (verdict,), Rules(strict=strict))) == {verdict.case: result}


def test_a_flagged_control_pair_is_skipped_with_its_words() -> None:
    suite = checked(junit(dataclasses.replace(GOOD, control=FLAGGED)))
    (skipped,) = suite.findall("*/skipped")
    assert (skipped.get("message"), skipped.text) == (FLAGGED.words, FLAGGED.words)


def test_a_failed_gate_has_an_error_even_if_no_verdict_says_so() -> None:
    gate = Gate("A", "B", (SAME,), control=CONTROL, failed=True, notes=("mlp: rank 0 died on A",))
    assert results(gate)["launches"] == ("error", "failed")
    assert results(Gate("A", "B", ())) == {"launches": ("error", "failed")}
    assert "mlp: rank 0 died on A" in junit(gate)


def test_the_numbers_are_in_the_message_and_in_the_text() -> None:
    (failure,) = checked(junit(Gate("A", "B", (MORE,)))).findall("*/failure")
    assert failure.get("message") == "faster, more memory: +5.0% (+4.0%…+6.0%); memory +5.0% (1,000 → 1,050 MiB)"
    assert failure.text == (
        "throughput, B against A: +5.0% (+4.0%…+6.0%)\n"
        "memory, B against A: +5.0%\n"
        "memory, MiB: A 1,000, B 1,050\n"
        "measured in: 16 blocks, 32 launches (duet)\n"
        "command: bench run --workload mine.py:Net:width=8 --strategy fsdp"
    )


def test_what_the_reason_says_is_not_said_twice() -> None:
    (failure,) = checked(junit(Gate("A", "B", (SLOWER,)))).findall("*/failure")
    assert failure.get("message") == (
        "slower: -4.0% (-5.0%…-3.0%) on 16 blocks; confirmed by fresh launches; 1,500 → 1,440 samples/s"
    )


def test_times_are_decimal_and_summed() -> None:
    verdicts = (SLOWER, SAME, MORE, BROKEN, Verdict("long", "new", "", seconds=1e22))
    suite = checked(junit(Gate("A", "B", verdicts)))
    times = [case.get("time") for case in suite.findall("testcase")]
    assert times == ["312.500", "0.000", "100.000", "0.000", "10000000000000000000000.000"]  # 1e-5 s, not a number
    assert checked(junit(Gate("A", "B", (SLOWER, SAME, MORE, BROKEN)))).get("time") == "412.500"


def test_the_time_of_the_suite_is_that_of_the_run() -> None:
    assert checked(junit(GATE)).get("timestamp") == "2026-11-02T09:00:00"
    assert checked(junit(GOOD)).get("timestamp") == "1970-01-01T00:00:00"


def test_a_workload_is_one_class_whatever_its_name() -> None:
    suite = checked(junit(Gate("A", "B", (MORE, MISSING))))
    assert [case.get("classname") for case in suite.findall("testcase")] == [
        "stepbench.mine_py:Net:width=8",
        "stepbench.case",
    ]


def test_hostile_texts_are_only_texts() -> None:
    suite = checked(junit(ODD))
    cases = suite.findall("testcase")
    line = "<script>]]>&\"%0A::error::x,y:z =cmd|' /C calc'!A0 \ufffd[31m\ufffd\ufffd\ufffd @team `a` **b**"
    assert [case.get("name") for case in cases] == [f"control pair: {line}", line, "?", line]
    failure = cases[1][0]
    assert str(failure.get("message")).startswith(f"slower: -10.0%; {line}")
    assert str(failure.text).startswith("slower: <script>]]>&\"%0A::error::x,y:z\n=cmd|'")
    assert {one.tag for one in suite.iter()} == {
        *("testsuite", "properties", "property", "testcase", "failure", "skipped", "system-out", "system-err")
    }


@pytest.mark.parametrize(
    "code", [*range(0x20), 0x7F, 0x85, 0x9F, 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0xA0, 0xFFFD, 0x1F600]
)
def test_any_character_comes_back_or_is_replaced(code: int) -> None:
    suite = checked(junit(Gate("A", "B", (Verdict("x", "slower", f"a{chr(code)}b"),))))
    (failure,) = suite.findall("*/failure")
    legal = code in (9, 10) or (code >= 0xA0 and not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF))
    shown = chr(code) if legal else "\n" if code == 13 else "\ufffd"
    assert failure.text == f"slower: a{shown}b"


def test_hostile_has_what_it_should() -> None:
    for part in ("]]>", "%0A::error::", "\r\n", "=cmd|", "\x1b", "\0", "\ud800", "\uffff", "@team"):
        assert part in HOSTILE
