"""Two nodes on one host, which meet at its loopback interface: each is a ``bench`` of its own."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from command_line import environment

from launch.ports import free_port

LIMIT_S = 200


class Nodes:
    def __init__(self, folder: Path) -> None:
        self.out, self.port = folder / "results", free_port()
        self.folder = folder

    def start(self, node: int, *words: str, token: str = "", of: str = "run") -> subprocess.Popen[str]:
        where = ("--nnodes", "2", "--node-rank", str(node), "--rdzv-endpoint", f"127.0.0.1:{self.port}")
        command = [sys.executable, "-m", "bench", of, *where]
        command += ["--out", str(self.out), "--quiet", *(["--device", "cpu"] if of != "check" else []), *words]
        variables = {**environment(), "STEPBENCH_TOKEN": token}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=self.folder, env=variables, text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def rows(self, name: str = "launches.csv") -> list[dict[str, str]]:
        files = sorted(self.out.glob(f"runs/*/{name}"))
        return [row for file in files for row in csv.DictReader(file.open())]


def ended(node: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = node.communicate(timeout=LIMIT_S)
    return node.returncode, said
