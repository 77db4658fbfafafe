"""A repository with two revisions of a workload, and interpreters of their own."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

WORKLOAD = """
import sys
from pathlib import Path

HELPED = Path(__file__).parent / "lib"
sys.path.append(str(HELPED))
import torch
from torch import nn

from helper import WIDTH


class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, index):
        return (torch.ones(WIDTH),)


class Mine:
    unit, batch_size = "samples", 16

    def build(self):
        return nn.Linear(WIDTH, 1)

    def loss(self, model, batch):
        return model(batch[0]).square().mean()

    def samples(self, data):
        return Data()

    def layers(self, model):
        return []
"""


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout


def repository(folder: Path) -> Path:
    """A workload and what it imports from beside it: of width 8 in `main`, of 16 in the branch that is checked out."""
    (folder / "nets" / "lib").mkdir(parents=True)
    (folder / "nets" / "mine.py").write_text(WORKLOAD)
    (folder / ".gitignore").write_text("__pycache__/\n")
    for branch, width in (("main", 8), ("change", 16)):
        (folder / "nets" / "lib" / "helper.py").write_text(f"WIDTH = {width}\n")
        if branch == "main":
            git(folder, "init")
        else:
            git(folder, "checkout", "-b", branch)
        git(folder, "add", ".")
        git(folder, "commit", "-m", branch)
    return folder


def interpreter(folder: Path, *site_packages: str) -> str:
    """The path of one without pip, which has what the given folders have."""
    venv.create(folder, with_pip=False)
    [own] = (folder / "lib").glob("python*/site-packages")
    (own / "others.pth").write_text("\n".join(site_packages))
    return str(folder / "bin" / "python")
