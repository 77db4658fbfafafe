"""Failures: every launch and case without a number, and the reason."""

from __future__ import annotations

import pandas as pd

from bench.analysis.order import in_order
from bench.analysis.summary import GROUP
from bench.plan.options import AXES

COLUMNS = (*GROUP, "status", "reason", "launches", "run_id", "launch_id", "log", "command")


def failures(launches: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each case, run, status and reason that is not ``ok``, in the order of the cases' axes.

    ``launches`` counts fresh starts that ended so (0 for a case that was never launched); ``launch_id`` is the first of
    them and ``log`` the folder of its logs within the run's folder.
    """
    bad = launches[(launches["role"] == "measure") & (launches["status"] != "ok")]
    groups = bad.groupby([*GROUP, "status", "reason", "run_id"], sort=False, dropna=False)
    found = groups[[*AXES, "launch_id", "command"]].first()
    found["launches"] = groups["order"].count()
    found["log"] = ("logs/" + found["launch_id"]).where(found["launch_id"].notna())
    return in_order(found.reset_index())[list(COLUMNS)]
