"""The files behind ``folder=`` and ``text=``, and the demo ones that every installation can make. No torch."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
DEMO_CLASSES, DEMO_IMAGES_A_CLASS, DEMO_SIDE = 8, 64, 160
FINGERPRINT_BYTES = 1 << 20


def images_of(folder: Path) -> list[Path]:
    """All images in ``folder/class/``, sorted; an empty list if there are none."""
    return sorted(p for p in folder.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)


def resolve(data: str) -> str:
    """``folder=demo`` and ``text=demo`` as the real path, made if it is not there yet; all else as it is."""
    if data == "folder=demo":
        return f"folder={_demo_folder()}"
    if data == "text=demo":
        return f"text={_demo_text()}"
    return data


@functools.lru_cache
def fingerprint(data: str) -> str:
    """What must be equal for two data sets to be the same, wherever they lie; for files a hash, else the kind."""
    kind, _, path = data.partition("=")
    digest = hashlib.sha256()
    if kind == "folder":
        for file in images_of(Path(path)):
            digest.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())
    elif kind == "text":
        size = Path(path).stat().st_size
        with open(path, "rb") as stream:
            digest.update(str(size).encode() + stream.read(FINGERPRINT_BYTES))
            stream.seek(max(0, size - FINGERPRINT_BYTES))
            digest.update(stream.read())
    else:
        return kind
    return f"{kind}:{digest.hexdigest()[:16]}"


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(root) / "stepbench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _demo_folder() -> Path:
    """512 JPEG files in 8 classes, cut from the photograph of Grace Hopper that matplotlib ships."""
    count = DEMO_CLASSES * DEMO_IMAGES_A_CLASS
    folder = _cache() / f"demo-images-{count}x{DEMO_SIDE}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "images"
            _cut_photograph(made)
            _publish(made, folder)
    return folder


def _cut_photograph(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.submodule_search_locations
    photograph = Path(spec.submodule_search_locations[0], "mpl-data", "sample_data", "grace_hopper.jpg")
    pixels = np.asarray(Image.open(photograph).convert("RGB"))
    height, width = pixels.shape[0] - DEMO_SIDE, pixels.shape[1] - DEMO_SIDE
    for n in range(DEMO_CLASSES * DEMO_IMAGES_A_CLASS):
        # places by Weyl sequences: spread over the photograph, and the same on every machine
        top, left = int(height * (n * 0.6180339887 % 1)), int(width * (n * 0.7548776662 % 1))
        target = folder / f"class{n % DEMO_CLASSES}" / f"{n:04}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top : top + DEMO_SIDE, left : left + DEMO_SIDE]).save(target, quality=90)


def _demo_text() -> Path:
    """The sources of this Python's own standard library, one after the other."""
    version = ".".join(map(str, sys.version_info[:3]))
    file = _cache() / f"demo-text-python-{version}.txt"
    if not file.exists():
        sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            made = Path(scratch) / "text"
            made.write_bytes(b"\n".join(source.read_bytes() for source in sources))
            _publish(made, file)
    return file


def _publish(made: Path, target: Path) -> None:
    """Move into place at once, so that nobody ever sees half of it; whoever comes second keeps the first."""
    try:
        made.rename(target)
    except OSError:
        if not target.exists():
            raise
