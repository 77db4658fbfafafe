"""What ``make gpu`` needs beside torch, for a machine without a network.

    python tests/benchmarks/gpu_wheels.py --python 3.12 --torch 2.11     # where there is a network: fills wheels/

``equip`` then installs from there what the other machine lacks, and nothing that it has. Standard library only.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WHEELS, SITE = ROOT / "wheels", ROOT / "build" / "gpu-site"
# module -> the name it is installed by: what no part can do without, and what only some of them need
BASE = {
    **{name: name for name in ("torch", "torchvision", "numpy", "psutil", "typer", "rich")},
    "pynvml": "nvidia-ml-py",
}
TESTS = {"pytest": "pytest", "pytest_timeout": "pytest-timeout"}
FLOAT8 = {"torchao": "torchao"}
VERDICTS = {name: name for name in ("pandas", "scipy")}
PAGE = {**VERDICTS, "jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def missing(modules: Mapping[str, str]) -> list[str]:
    """Those of the modules that this interpreter does not find, by the names they are installed by."""
    return sorted(name for module, name in modules.items() if importlib.util.find_spec(module) is None)


def equip(wheels: Path = WHEELS, site: Path = SITE) -> None:
    """Install from ``wheels`` into ``site`` what this interpreter lacks, and put ``site`` last on its path.

    No dependency is resolved, so that nothing of the machine's own (its torch, its numpy) is replaced or hidden.
    """
    sys.path.append(str(site))
    lacking = [wheel for wheel in sorted(wheels.glob("*.whl")) if not _is_installed(wheel)]
    if not lacking:
        return
    pip = next(iter(sorted(wheels.glob("pip-*.whl"))), None)
    command = [sys.executable, f"{pip}/pip"] if pip else [sys.executable, "-m", "pip"]
    words = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(site)]
    subprocess.run([*command, *words, *map(str, lacking)], check=True)
    importlib.invalidate_caches()


def _is_installed(wheel: Path) -> bool:
    name = wheel.name.partition("-")[0]
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def how_to_bring(names: Iterable[str]) -> str:
    """What to do about missing packages, in words."""
    return (
        f"{sys.executable} lacks {', '.join(names)}. Where there is a network, run `make gpu-wheels "
        f"GPU_PYTHON={sys.version_info.major}.{sys.version_info.minor}`, copy the folder wheels/ into this checkout, "
        "and run `make gpu` again: it installs from there what is missing."
    )


def downloads(python: str, torch: str, into: Path) -> list[list[str]]:
    """The pip commands that fill a folder for Python ``python`` and torch ``torch``, each like 3.12.

    torchvision is the release that belongs to that torch (2.11: 0.26), and comes without torch itself.
    """
    major, minor = re.fullmatch(r"(\d+)\.(\d+)", torch).groups()  # type: ignore[union-attr]
    if major != "2":
        raise ValueError(f"torch {torch}: it is not known which torchvision belongs to it")
    pip = [sys.executable, "-m", "pip", "download", "--dest", str(into), "--only-binary", ":all:"]
    pip += ["--python-version", python, *(word for name in PLATFORMS for word in ("--platform", name))]
    others = sorted({"pip", *{**BASE, **TESTS, **PAGE, **FLOAT8}.values()} - {"torch", "torchvision"})
    return [[*pip, *others], [*pip, "--no-deps", f"torchvision==0.{int(minor) + 15}.*"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--torch", default="2.11", help="of the machine with the GPU")
    args = parser.parse_args()
    for command in downloads(args.python, args.torch, WHEELS):
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
