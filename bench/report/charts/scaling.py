"""Does it scale? Speed-up over the number of devices against the ideal line, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.scaling import SUSPICIOUS
from bench.analysis.summary import GROUP
from bench.options import AXES
from bench.report.charts.chart import Chart
from bench.report.charts.questions import (
    DEVICES,
    Question,
    environment,
    labelled,
    launches_of,
    name_of,
    printable,
    slug,
)
from bench.report.charts.style import SENTINELS, SERIES, Colours
from bench.report.words import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODES = {
    "weak": "the batch of each device stays the same",
    "strong": "the global batch stays the same, and each device has less of it",
}
POINT = ["gpus", "speedup", "speedup_low", "speedup_high", "efficiency", "samples_per_s", "launches"]


@dataclass(frozen=True)
class Scaling:
    """``series``: the points of each label, its base first, columns POINT. ``missing``: what has no speed-up, with
    ``gpus``, ``label``, ``status`` and ``refused``."""

    series: dict[str, pd.DataFrame]
    missing: pd.DataFrame
    devices: str


def scaling(answers: Answers, _: Sequence[Question] = ()) -> Iterator[Chart]:
    """For each workload, environment and mode with a speed-up, SERIES lines a chart at most."""
    more = [name for name in (*AXES, "status", "reason", "ok") if name not in answers.scaling]
    cases = answers.scaling.merge(answers.summary[[*GROUP, *more]], on=list(GROUP), how="left")
    for (workload, letter), rows in cases.groupby(["workload", "environment"], sort=False, dropna=False):
        lost = rows[rows["mode"].isna()]
        for mode in MODES:
            own = rows[rows["mode"] == mode]
            grown = own[own["gpus"] > own["base_gpus"]]
            if grown.empty:
                continue
            missing = pd.concat([own[own["speedup"].isna()], lost])
            lost = lost.iloc[:0]  # of no mode: said once
            where = environment(letter, answers.summary, "-")
            stem = slug("scaling", mode, str(workload), *where)
            subject = ", ".join([name_of(workload), *environment(letter, answers.summary)])
            yield from _charts(stem, f"{mode.capitalize()} scaling of {subject}", mode, grown, missing)


def _charts(stem: str, title: str, mode: str, grown: pd.DataFrame, missing: pd.DataFrame) -> Iterator[Chart]:
    missing = labelled(missing, ("strategy", "gpus", "precision")) if len(missing) else missing.assign(label="")
    missing = missing.assign(status=missing["status"].where(missing["ok"] == 0, "no base"))
    lines = list(_series(grown, mode).items())
    devices = DEVICES.get(str(grown["device"].iloc[0]), "device") + "s"
    parts = range(0, len(lines), SERIES)
    for part, start in enumerate(parts, 1):
        of = Scaling(dict(lines[start : start + SERIES]), missing if part == 1 else missing.iloc[:0], devices)
        many = len(parts) > 1
        yield Chart(
            name=f"{stem}-{part}" if many else stem,
            title=f"{title}, speed-up in times the base" + (f" ({part} of {len(parts)})" if many else ""),
            alt=_alt(of, title),
            note=_note(of, mode, grown),
            data=_data(of),
            figure=partial(_figure, of),
        )


def _series(grown: pd.DataFrame, mode: str) -> dict[str, pd.DataFrame]:
    """Each with its base before it, under the words in which the lines differ."""
    of = ["strategy", "base_case_id"]
    firsts = grown.drop_duplicates(of).assign(gpus=None)
    if mode == "strong":
        batches = firsts["global_batch"].nunique() > 1
        firsts = labelled(firsts.assign(batch_size=None))
        firsts["label"] += firsts["global_batch"].map(" global batch {}".format) if batches else ""
    else:
        firsts = labelled(firsts)
    names = {(row["strategy"], row["base_case_id"]): row["label"] for _, row in firsts.iterrows()}
    found = {}
    for _, rows in grown.groupby(of, sort=False):
        first = rows.iloc[0]
        base = {"gpus": first["base_gpus"], "speedup": 1.0, "efficiency": 1.0, "launches": None}
        base["samples_per_s"] = first["base_samples_per_s"]
        points = pd.DataFrame([base, *rows.sort_values("gpus")[POINT].to_dict("records")], columns=POINT)
        found[names[first["strategy"], first["base_case_id"]]] = points.astype({"gpus": "int64"})
    return found


def _alt(of: Scaling, title: str) -> str:
    ends = [
        f"{label}: {number(end['speedup'])} times the base on {end['gpus']:.0f} {of.devices} "
        f"({end['efficiency']:.0%} of ideal)"
        for label, points in of.series.items()
        for end in [points.iloc[-1]]
    ]
    lost = "; ".join(f"{row['label']} ({row['status']})" for _, row in of.missing.iterrows())
    said = f"Line chart with logarithmic axes: {title}, speed-up over {of.devices} against the ideal line. "
    return said + "; ".join(ends) + "." + (f" Without a speed-up: {lost}." if lost else "")


def _note(of: Scaling, mode: str, grown: pd.DataFrame) -> str:
    counts = launches_of(grown.assign(ok=grown["launches"]))
    said = [
        f"{mode.capitalize()}: {MODES[mode]}. A point is the median throughput of {counts} over the base's, the case "
        "of fewest devices that is equal but for them; a whisker the 95\u00a0% interval of the ratio. Both axes are "
        "logarithmic; on the ideal line N times the devices are N times as fast. Percentages beside the names are of "
        "the ideal, at the most devices."
    ]
    flagged = [
        f"{label} on {point['gpus']:.0f} {of.devices} ({point['efficiency']:.0%})"
        for label, points in of.series.items()
        for _, point in points[points["efficiency"] > SUSPICIOUS].iterrows()
    ]
    if flagged:
        said.append(f"More than ideal, which is suspicious: {'; '.join(flagged)}.")
    lost = [f"{row['label']} ({printable(row['refused'])})" for _, row in of.missing.iterrows()]
    if lost:
        said.append(f"Without a speed-up: {'; '.join(lost)}.")
    return " ".join(said)


def _data(of: Scaling) -> pd.DataFrame:
    names: Sequence[str] = (
        *(of.devices, "speed-up, times the base", "95 % from, times", "95 % to, times", "efficiency, share of ideal"),
        *("median, samples/s", "launches ok"),
    )
    drawn = [
        points[POINT].set_axis(list(names), axis=1).assign(series=label, status="ok")
        for label, points in of.series.items()
    ]
    lost = of.missing[["gpus", "label", "status", "refused"]]
    lost = lost.set_axis([of.devices, "series", "status", "reason"], axis=1)
    found = pd.concat([*drawn, *([lost] if len(lost) else [])], ignore_index=True)
    return found[["series", *names, "status", *(["reason"] if "reason" in found else [])]]


def _figure(of: Scaling, colours: Colours = SENTINELS) -> Figure:
    from bench.report.charts.curves import draw

    return draw(of, colours)
