"""The wheel, installed elsewhere, works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.launch
def test_a_wheel_works_from_a_folder_with_decoys(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"bench", "workloads", "launch"}
    page = {f"bench/report/page.{kind}" for kind in ("html.j2", "css", "js")}
    assert {"bench/plan/suites/quick.toml", "bench/py.typed", *page} <= set(names)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True)
    work = tmp_path / "work"
    (work / "workloads").mkdir(parents=True)
    (work / "workloads" / "__init__.py").write_text("raise RuntimeError('the decoy was imported')\n")
    (work / "launch.py").write_text("raise RuntimeError('the decoy was imported')\n")
    words = ["run", "--workload", "mlp", "--device", "cpu", "--launches", "1", "--steps", "5"]
    done = subprocess.run(
        [str(site / "bin" / "bench"), *words],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(work.glob("results/runs/*/launches.csv"))
