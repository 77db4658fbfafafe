"""The measured half of docs/certificate.md, as text made of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from .certificate import bounds

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

TEXT = """## On a real machine

`bench ab` on {machine}, a virtual machine whose host others use, and not always idle itself. Gates of one case, by
`python -m tests.benchmarks.gates`: in turn one with two equal sides, and one whose B has seventeen layers instead of
sixteen (`gpt:layers=16`). Every gate is a row of `results/certificate/measured.csv`.

| mode | gates without a change | alarms | undecided | gates with one | found | undecided | change | detectable | blocks | seconds a gate |
|---|--:|---|--:|--:|---|--:|--:|--:|--:|--:|
{table}

- **alarms**: the verdict was `slower` or `faster`; **found**: it was `slower`; with two-sided 95 % bounds (Clopper–Pearson).
- **undecided**: `inconclusive`, or the control pair differed from itself.
- **change**: of throughput, the median over the gates with one. **detectable**: the slowdown that a gate with such noise and
  so many blocks finds 95 times of 100, the median over all.
- **blocks**, **seconds a gate**: in the mean of gates without a change, and of those with one.
- The gates have as many blocks as there was time for, and not those that `bench calibrate` asks for. By launches that
  would be hundreds on this machine, hours a gate: with so few, such a change is found now and then, and what is shown
  is that nothing else is claimed.
"""


def update(page: str, rows: Sequence[dict[str, str]]) -> str:
    """The page with this half made anew; all that lies outside its markers stays."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section(rows)}{END}{after}"


def section(rows: Sequence[dict[str, str]]) -> str:
    machines = " and ".join(dict.fromkeys(row["machine"] for row in rows))
    modes = dict.fromkeys(row["mode"] for row in rows)
    return TEXT.format(machine=machines, table="\n".join(_line(m, [r for r in rows if r["mode"] == m]) for m in modes))


def _line(mode: str, rows: Sequence[dict[str, str]]) -> str:
    null, slowed = ([row for row in rows if (row["slowed"] == "True") == kind] for kind in (False, True))
    cells = [mode]
    for of, said in ((null, ("slower", "faster")), (slowed, ("slower",))):
        counts = Counter(row["verdict"] for row in of)
        cells += [str(len(of)), _share(sum(counts[verdict] for verdict in said), len(of)), str(counts["inconclusive"])]
    cells.append(f"{median(float(row['ratio']) for row in slowed if row['ratio']) - 1:+.1%}" if slowed else "")
    known = [float(row["detectable"]) for row in rows if row["detectable"]]
    cells.append(f"{median(known):.1%}" if known else "")
    for name in ("blocks", "seconds"):
        cells.append(" / ".join(f"{fmean(float(row[name]) for row in of):.0f}" for of in (null, slowed) if of))
    return "| " + " | ".join(cells) + " |"


def _share(count: int, of: int) -> str:
    if not of:
        return ""
    low, high = bounds(count, of)
    return f"{count} of {of}: {count / of:.0%} ({low:.0%}–{high:.0%})"
