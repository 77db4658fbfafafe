"""The distribution of each launch's step times, and the steps far outside of it."""

from __future__ import annotations

import pandas as pd

from bench.analysis.summary import GROUP

FENCE = 1.5  # interquartile ranges above the upper quartile: an outlier (Tukey 1977)
COLUMNS = (*GROUP, "run_id", "launch_id", "block", "steps", "median_ms", "p05_ms", "p95_ms", "outliers", "largest_ms")


def noise(launches: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each successful launch with steps: their median, 5th and 95th percentile in ms.

    ``outliers`` counts the steps beyond the fence, and ``largest_ms`` is the largest of them (unknown if there are
    none).
    """
    good = launches[(launches["role"] == "measure") & (launches["status"] == "ok")]
    key = ["run_id", "launch_id"]
    times = steps.groupby(key, sort=False)["step_ms"]
    quantiles = pd.DataFrame({q: times.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)})
    fences = quantiles[0.75] + FENCE * (quantiles[0.75] - quantiles[0.25])
    fence = fences.rename("fence").reset_index()
    far = steps.merge(fence, on=key).query("step_ms > fence").groupby(key)["step_ms"].agg(["size", "max"])
    found = pd.DataFrame(
        {
            **{
                "steps": times.size(),
                "median_ms": quantiles[0.5],
                "p05_ms": quantiles[0.05],
                "p95_ms": quantiles[0.95],
            },
            **{"outliers": far["size"].reindex(quantiles.index, fill_value=0), "largest_ms": far["max"]},
        }
    )
    return good[[*GROUP, *key, "block"]].merge(found.reset_index(), on=key)[list(COLUMNS)]
